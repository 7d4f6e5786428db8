"""Frames from folders, videos and arrays."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from loaders.data_dir import read_image
from preprocess.frames import (
    FrameOptions,
    extract_frames,
    list_images,
    open_source,
    processed_size,
    read_mask,
    read_rgb,
    shrink,
    write_masks,
)
from util import UserError


def encode(path, *options, size="39x27", frames=6, filters=""):
    """A test video whose frames all differ, in the codec that the suffix stands for."""
    source = f"testsrc=size={size}:rate=5,trim=end_frame={frames}{filters}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "clip é 1.mp4", "-pix_fmt", "yuv444p", "-movflags", "+faststart")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("odd.mp4", ["-pix_fmt", "yuv444p"]),
        ("a b.mov", ["-pix_fmt", "yuv444p"]),
        ("ü.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
        ("x.gif", []),
        ("gray.mkv", ["-c:v", "ffv1", "-pix_fmt", "gray"]),
        ("alpha.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuva444p"]),
        ("deep.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv444p10le"]),
    ],
)
def test_any_video_gives_all_its_frames_at_its_odd_size(tmp_path, name, options):
    source = open_source(encode(tmp_path / name, *options))
    frames = list(source.frames())
    assert (len(frames), source.fps) == (6, 5.0)
    assert {(frame.shape, str(frame.dtype)) for frame in frames} == {((27, 39, 3), "uint8")}
    assert all((a != b).any() for a, b in zip(frames, frames[1:]))


def test_video_frames_are_exact_where_the_codec_is(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (3, 17, 23, 3), dtype=np.uint8)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "23x17"]
    output = ["-c:v", "png", str(tmp_path / "exact.mov")]
    subprocess.run([*command, "-i", "-", *output], input=random.tobytes(), check=True)
    assert np.array_equal(np.stack(list(open_source(tmp_path / "exact.mov").frames())), random)


def test_resampling_changes_the_number_of_frames(video):
    assert len(list(open_source(video).frames(2.5))) == 3
    assert len(list(open_source(video).frames(10))) in (11, 12)


def test_variable_frame_rate_gives_every_stored_frame_once(tmp_path):
    path = encode(tmp_path / "vfr.mkv", "-fps_mode", "vfr", frames=12, filters=",select='lt(n,4)+not(mod(n,4))'")
    assert len(list(open_source(path).frames())) == 6  # frames 0 1 2 3 4 8


def test_start_and_end_select_frames_and_stop_early(video, tmp_path):
    frames = list(open_source(video).frames())
    result = extract_frames(open_source(video), tmp_path, FrameOptions(start=2, end=4))
    assert result["num_frames"] == 2
    assert np.array_equal(read_image(tmp_path / "00000.png"), frames[2])
    assert np.array_equal(read_image(tmp_path / "00001.png"), frames[3])


def test_folders_are_read_in_natural_order_and_other_files_ignored(tmp_path):
    for number in (10, 2, 1):
        Image.new("RGB", (20, 18), (number, 0, 0)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._f1.png").write_text("x")
    assert [file.name for file in list_images(tmp_path)] == ["f1.png", "f2.png", "f10.png"]
    assert [frame[0, 0, 0] for frame in open_source(tmp_path).frames()] == [1, 2, 10]
    (tmp_path / "f2.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"f2\.jpg and f2\.png are the same frame twice"):
        list_images(tmp_path)


def test_images_of_every_kind_become_8_bit_rgb(tmp_path):
    gray = np.arange(20 * 16, dtype=np.uint8).reshape(16, 20)
    alpha = np.dstack([gray] * 3 + [np.full_like(gray, 128)])
    palette = Image.fromarray(np.dstack([gray // 64 * 64] * 3)).quantize(4)
    kinds = {
        "gray": (Image.fromarray(gray), gray), "deep": (Image.fromarray(gray.astype(np.uint16) * 257), gray),
        "alpha": (Image.fromarray(alpha), gray / 255 * 128), "palette": (palette, gray // 64 * 64),
        "dark": (Image.fromarray(gray.astype(np.uint16)), gray),  # 8-bit values in a 16-bit file
    }
    for name, (image, expected) in kinds.items():
        image.save(tmp_path / f"{name}.png")
        loaded = read_rgb(tmp_path / f"{name}.png")
        assert loaded.shape == (16, 20, 3), name
        assert loaded.dtype == np.uint8
        assert np.abs(loaded - np.asarray(expected, float)[..., None]).max() <= 1, name


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").shape == (20, 16, 3)


def test_a_video_that_is_to_be_shown_turned_is_read_turned(video, tmp_path):
    turn = ["-v", "error", "-display_rotation", "90", "-i", str(video), "-c", "copy", str(tmp_path / "turned.mp4")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *turn], check=True)
    turned, plain = (np.stack(list(open_source(path).frames())) for path in (tmp_path / "turned.mp4", video))
    assert turned.shape == (6, 39, 27, 3)
    assert np.array_equal(turned, np.rot90(plain, axes=(1, 2)))  # counter-clockwise, as ffmpeg has it


def test_shrinking_keeps_the_aspect_and_averages():
    assert processed_size(480, 854, 256) == (144, 256)
    assert processed_size(480, 854, None) == processed_size(480, 854, 2000) == (480, 854)
    checker = np.indices((32, 48)).sum(0).astype(np.uint8) % 2 * 200
    assert np.array_equal(shrink(checker, (16, 24)), np.full((16, 24), 100, np.uint8))


def test_fingerprint_follows_content_and_size(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    def fingerprint(frames, **options):
        return extract_frames(open_source(frames), tmp_path, FrameOptions(**options))["fingerprint"]

    same = [fingerprint(array), fingerprint(array.copy(), max_side=100, start=0)]
    assert same[0] == same[1]
    assert len({same[0], fingerprint(array, max_side=20), fingerprint(array, end=2), fingerprint(array[::-1])}) == 4


def test_masks_are_gray_label_or_palette_images(tmp_path):
    truth = np.zeros((18, 20), bool)
    truth[4:9, 3:12] = True
    palette = Image.fromarray(truth.astype(np.uint8) * 2, "P")
    palette.putpalette([0, 0, 0, 90, 0, 0, 0, 90, 0])
    kinds = {
        "gray": Image.fromarray(truth.astype(np.uint8) * 255), "labels": Image.fromarray(truth.astype(np.uint8)),
        "palette": palette, "color": Image.fromarray(np.dstack([truth * 0, truth * 200, truth * 0]).astype(np.uint8)),
        "bits": Image.fromarray(truth), "deep": Image.fromarray(truth.astype(np.uint16) * 65535),
    }
    for name, image in kinds.items():
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), truth), name


def test_masks_may_belong_to_the_chosen_frames_or_to_all(tmp_path):
    video = {"num_frames": 2, "height": 9, "width": 10, "original_height": 18, "original_width": 20}
    for number in range(4):
        mask = np.zeros((18, 20), np.uint8)
        mask[:, : 4 * number] = 255
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
    write_masks(tmp_path, tmp_path / "out", FrameOptions(start=1, end=3), video)
    masks = [read_image(tmp_path / f"out/0000{number}.png", grey=True) for number in (0, 1)]
    assert [np.unique(mask).tolist() for mask in masks] == [[0, 255], [0, 255]]
    assert [(mask > 0).sum() for mask in masks] == [9 * 2, 9 * 4]
    with pytest.raises(UserError, match=r"4 mask\(s\); expected 2"):
        write_masks(tmp_path, tmp_path / "out", FrameOptions(), video)
    with pytest.raises(UserError, match=r"mask of 20x18 pixels; expected 30x30"):
        video.update(original_height=30, original_width=30)
        write_masks(tmp_path, tmp_path / "out", FrameOptions(end=2), video)


def save_frames(folder, count=3, size=(20, 18)):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
            folder / f"{number:05d}.png"
        )
    return folder


def truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def different_sizes(folder):
    save_frames(folder)
    Image.new("RGB", (24, 18)).save(folder / "00002.png")
    return folder


def truncated_jpeg(folder):
    save_frames(folder)
    Image.open(folder / "00001.png").save(folder / "00003.jpg")
    truncate(folder / "00003.jpg", 0.8)
    return folder


def truncated_png(folder):
    truncate(save_frames(folder) / "00001.png", 0.7)
    return folder


def text_file(path):
    path = path.with_suffix(".txt")
    path.write_text("not a video " * 20)
    return path


def noise_file(path):
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    return path


def single_image(path):
    path = path.with_suffix(".png")
    Image.new("RGB", (20, 18)).save(path)
    return path


def touched(path):
    path.touch()
    return path


def sound_only(path):
    path = path.with_suffix(".wav")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=0.1", str(path)]
    subprocess.run(command, check=True)
    return path


BAD_INPUT = {  # what is wrong: (makes it, what the message says)
    "missing": (lambda path: path, "no such file; expected a video file or a folder"),
    "empty folder": (lambda path: save_frames(path, 0), "no png or jpg images"),
    "one frame": (lambda path: save_frames(path, 1), "1 frame"),
    "different sizes": (different_sizes, r"00002\.png: 24x18 pixels, the frames before it 20x18"),
    "truncated jpeg": (truncated_jpeg, r"00003\.jpg: unreadable or truncated image"),
    "truncated png": (truncated_png, r"00001\.png: unreadable or truncated image"),
    "too small": (lambda path: save_frames(path, 2, (20, 8)), "frames of 20x8 pixels; expected sides of 16"),
    "text": (text_file, "a text file; expected a video|not a readable video"),
    "noise": (noise_file, "not a readable video"),
    "empty file": (touched, "empty file"),
    "single image": (single_image, "a single image"),
    "no picture": (sound_only, "not a readable video"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_one_line(tmp_path, case):
    make, expected = BAD_INPUT[case]
    path = make(tmp_path / "ïnput 1")
    with pytest.raises(UserError, match=expected) as error:
        extract_frames(open_source(path), tmp_path / "out", FrameOptions())
    assert "\n" not in str(error.value)
    assert "ïnput 1" in str(error.value)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ["-pix_fmt", "yuv444p", "-movflags", "+faststart"]),
        (".mp4", []),
        (".mkv", ["-c:v", "ffv1"]),
        (".gif", []),
    ],
)
def test_truncated_videos_are_named(tmp_path, suffix, options):
    path = truncate(encode(tmp_path / f"v{suffix}", *options, size="96x64"), 0.7)
    with pytest.raises(UserError, match=rf"v\{suffix}: (truncated or damaged|not a readable) video") as error:
        extract_frames(open_source(path), tmp_path / "out", FrameOptions())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("options", "expected"), [
    ({"max_side": 8}, "--max_side 8"), ({"fps": 0}, "--fps 0"), ({"fps": float("nan")}, "--fps nan"),
    ({"start": -1}, "--start -1"), ({"start": 5, "end": 6}, r"--end 6: expected at least --start \+ 2 = 7"),
])
def test_bad_options_are_named(options, expected):
    with pytest.raises(UserError, match=expected):
        FrameOptions(**options)


def test_a_start_beyond_the_end_says_how_many_frames_are_left(video, tmp_path):
    with pytest.raises(UserError, match=r"0 frame\(s\) from frame 6 on; expected at least 2"):
        extract_frames(open_source(video), tmp_path, FrameOptions(start=6))


def test_arrays_are_checked():
    assert next(open_source(np.zeros((2, 20, 20), np.uint8)).frames()).shape == (20, 20, 3)
    with pytest.raises(UserError, match="expected uint8 frames"):
        open_source(np.zeros((2, 20, 20, 3)))
