"""Video files of any size: whole or not at all."""

import numpy as np
import pytest

from outputs import video
from outputs.video import video_writer
from tests.helpers.read_video import read_video
from util import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None

GREY = np.full((40, 60, 3), 128, np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (33, 50), (50, 33), (2, 2), (1, 7)])
def test_videos_of_any_size_play(tmp_path, size):
    height, width = size
    frames = [np.full((height, width, 3), (200, 40 * i, 90), np.uint8) for i in range(4)]
    with video_writer(tmp_path / "é v.mp4", 29.97) as write:
        for frame in frames:
            write(frame)
    shown, meta = read_video(tmp_path / "é v.mp4")
    assert meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p(")
    assert meta["fps"] == pytest.approx(29.97)
    assert shown.shape == (4, height + height % 2, width + width % 2, 3), "an odd side grows by one line"
    for image, frame in zip(shown, frames):
        assert np.abs(image[:height, :width].astype(int) - frame).max() <= 6


def test_the_extra_line_repeats_the_last_one(tmp_path):
    frame = np.zeros((15, 21, 3), np.uint8)
    frame[:, -1], frame[-1] = 255, 255
    with video_writer(tmp_path / "v.mp4", 10) as write:
        write(frame)
    shown = read_video(tmp_path / "v.mp4")[0][0]
    assert shown[:, 21].min() > 200 and shown[15].min() > 200 and shown[:14, :20].mean() < 20


def test_an_interrupted_video_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), video_writer(tmp_path / "v.mp4", 10) as write:
        write(GREY)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(resource is None, reason="no limit of file sizes on this system")
def test_a_video_that_cannot_be_written_whole_is_an_error(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8)
    popen = video.subprocess.Popen

    def limited(*args, **kwargs):
        return popen(*args, **kwargs, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)))

    monkeypatch.setattr(video.subprocess, "Popen", limited)
    fails = pytest.raises(UserError, match="v.mp4: the video encoder failed")
    with fails, video_writer(tmp_path / "v.mp4", 10) as write:
        for frame in noise:
            write(frame)
    assert list(tmp_path.iterdir()) == []
