"""EXR files for compositing, read by OpenEXR, and an STMap applied by hand."""

import numpy as np
import OpenEXR

from outputs.exr import write_exr, write_motion_vectors, write_stmap


def channels(path):
    file = OpenEXR.File(str(path), separate_channels=True)
    return {name: channel.pixels for name, channel in file.channels().items()}


def look_up(image, u, v):
    """The pixel of image (H, W) at shares of its width and height from the lower left corner, as Nuke's STMap does."""
    height, width = image.shape
    return image[np.clip(np.floor((1 - v) * height), 0, height - 1).astype(int),
                 np.clip(np.floor(u * width), 0, width - 1).astype(int)]


def test_an_stmap_fetches_each_pixel_from_where_its_flow_leads(tmp_path):
    random = np.random.default_rng(0)
    picture, flow = random.random((6, 9)), np.empty((6, 9, 2), np.float32)
    y, x = np.mgrid[:6, :9]
    flow[..., 0], flow[..., 1] = (x + 4) % 9 - x, (y + 5) % 6 - y
    visible = random.random((6, 9)) > 0.5
    write_stmap(tmp_path / "s.exr", flow, visible)
    found = channels(tmp_path / "s.exr")
    assert np.array_equal(look_up(picture, found["R"], found["G"]), np.roll(picture, (-5, -4), (0, 1)))
    assert np.array_equal(found["A"] > 0, visible)
    write_stmap(tmp_path / "s.exr", np.zeros((6, 9, 2)), visible)
    still = channels(tmp_path / "s.exr")
    assert (still["R"][0, 0], still["G"][5, 0]) == (np.float32(0.5 / 9), np.float32(0.5 / 6))


def test_motion_vectors_have_y_up(tmp_path):
    flow = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    write_motion_vectors(tmp_path / "v.exr", flow, np.ones((4, 5), bool))
    found = channels(tmp_path / "v.exr")
    assert np.array_equal(found["forward.u"], flow[..., 0]) and np.array_equal(found["forward.v"], -flow[..., 1])
    assert found["forward.u"].dtype == np.float32


def test_depth_is_unrounded(tmp_path):
    depth = np.random.default_rng(0).random((4, 5), np.float32)
    write_exr(tmp_path / "d.exr", {"Z": depth})
    assert np.array_equal(channels(tmp_path / "d.exr")["Z"], depth)
