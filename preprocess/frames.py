"""Where frames come from: a folder of images, a video file, or an array; and how they enter the data directory.

Conventions: frames are uint8 (H, W, 3) RGB. Alpha is composited over black, grayscale repeated, 16 bits reduced to 8,
EXIF and container rotation applied. Frame numbers count after resampling to another frame rate.
"""

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps

from files import FFMPEG_INPUT, IMAGE_FORMATS, MOST_PIXELS, UserError, check_image_size, locked_folder, regular_file
from loaders.data_dir import owner_of_image, write_image

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
FRAME_FOLDERS = {"frames", "images", "color", "rgb"}  # not names of videos: the folder above has it
FOLDER_FPS = 24.0  # of a folder of frames or an array, when --fps does not say
MIN_SIDE = 16  # pixels
LABELS_BELOW = 32  # a mask file whose largest value is below this holds object numbers, not gray values


@dataclass(frozen=True)
class FrameOptions:
    """Which frames, and how large. UserError when a value makes no sense."""

    max_side: int | None = None  # pixels of the longer side; larger frames are scaled down
    fps: float | None = None  # a video is resampled to it; of a folder it only says how fast it plays
    start: int | None = None  # first frame
    end: int | None = None  # one after the last frame

    def __post_init__(self):
        if self.max_side is not None and self.max_side < MIN_SIDE:
            raise UserError(f"--max_side {self.max_side}: expected at least {MIN_SIDE} pixels")
        if self.fps is not None and not 0 < self.fps < 1000:
            raise UserError(f"--fps {self.fps:g}: expected frames per second above 0 and below 1000")
        if self.start is not None and self.start < 0:
            raise UserError(f"--start {self.start}: expected a frame number from 0 on")
        least = (self.start or 0) + 2
        if self.end is not None and self.end < least:
            raise UserError(f"--end {self.end}: expected at least --start + 2 = {least} (the end is exclusive)")

    def select(self, sequence):
        """The chosen part of a sequence or iterator."""
        return itertools.islice(sequence, self.start or 0, self.end)


# Sources: .name, .path (text), .fps, .fingerprint() of everything that could be read, .frames(fps)


def open_source(source):
    """A source of frames: a folder, a video file, or a uint8 array (N, H, W, 3). UserError when it is none of them."""
    if isinstance(source, np.ndarray):
        return ArraySource(source)
    path = Path(source)
    if path.is_dir():
        return FolderSource(path)
    regular_file(path, "a video file or a folder of png or jpg frames")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(f"{path}: a single image; expected a video file or a folder of at least 2 frames")
    return VideoSource(path)


class ArraySource:
    """Frames in memory."""

    name, path, fps = "array", "", FOLDER_FPS

    def __init__(self, array):
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.ndim == 4 and array.shape[3] != 3:
            raise UserError(f"array of {array.dtype} {array.shape}: expected uint8 frames (N, H, W, 3) or (N, H, W)")
        self.array = array if array.ndim == 4 else np.repeat(array[..., None], 3, axis=-1)

    def fingerprint(self):
        return hashlib.sha256(str(self.array.shape).encode() + np.ascontiguousarray(self.array).data).hexdigest()

    def frames(self, _fps=None):
        return iter(self.array)


class FolderSource:
    """The image files of a folder in natural order (frame2 before frame10)."""

    fps = FOLDER_FPS

    def __init__(self, path):
        name = path.resolve()
        self.path, self.name = str(path), (name.parent if name.name.lower() in FRAME_FOLDERS else name).name
        self.files = list_images(path)
        if not self.files:
            raise UserError(f"{path}: no png or jpg images in this folder; expected a folder of frames or a video file")

    def fingerprint(self):
        return files_fingerprint(self.files)

    def frames(self, _fps=None):
        return map(read_rgb, self.files)


class VideoSource:
    """A video file, decoded by ffmpeg; every stored frame once, whatever its time stamp, unless resampled."""

    def __init__(self, path):
        self.path, self.name = str(path), path.stem
        if path.stat().st_size == 0:
            raise UserError(f"{path}: empty file; expected a video")
        # ffmpeg without an output: describes the file and fails. "file:" keeps odd names from being taken for protocols
        listing = run_ffmpeg(*FFMPEG_INPUT, "-i", f"file:{path}").stderr
        if "not on whitelist" in listing:  # a text, of which ffmpeg would draw the letters; a list of other files
            raise UserError(f"{path}: not a readable video (a text, a playlist, an image?)")
        if "Video:" not in listing:
            raise UserError(f"{path}: not a readable video ({error_line(listing) or 'no video stream in it'})")
        rate = re.search(r"Video:.* ([\d.]+) (?:fps|tbr)", listing)
        self.fps = float(rate[1]) if rate and float(rate[1]) > 0 else FOLDER_FPS

    def fingerprint(self):
        return files_fingerprint([self.path])

    def frames(self, fps=None):
        """Decode one frame after the other. UserError when the file is truncated or damaged before the last one."""
        rate = ["-vf", f"fps={fps}"] if fps else ["-fps_mode", "passthrough"]
        output = ["-map", "0:v:0", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", *FFMPEG_INPUT,
                   "-i", f"file:{self.path}"]
        with tempfile.TemporaryFile() as log:  # not a pipe: nobody would empty it
            process = subprocess.Popen([*command, *rate, *output], stdout=subprocess.PIPE, stderr=log)
            try:
                while (frame := read_ppm(process.stdout)) is not None:
                    yield frame
                failed = process.wait() != 0
            finally:  # also when the reader has enough frames
                process.kill()
                process.stdout.close()
                process.wait()
            log.seek(0)
            messages = log.read().decode(errors="replace")
        if failed or error_line(messages):  # ffmpeg calls some truncated files a success
            raise UserError(f"{self.path}: truncated or damaged video ({error_line(messages) or 'no reason given'})")


def run_ffmpeg(*options):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")


def error_line(messages):
    """The first line of ffmpeg's messages that tells of damage, or None; it also grumbles about harmless things."""
    lines = [re.sub(r"^\[.*?\] ", "", line.strip()) for line in messages.splitlines()]
    damage = re.compile("error|invalid|not found|truncat|partial|corrupt|premature|fail", re.IGNORECASE)
    return next(filter(damage.search, lines), None)


def read_ppm(stream):
    """The next frame of a stream of binary PPM images -> uint8 (H, W, 3), or None at its end (or in mid-frame)."""
    header = [stream.readline() for _ in range(3)]  # b"P6", b"W H", b"255"
    if header[0].strip() != b"P6" or not header[2]:
        return None
    width, height = map(int, header[1].split())
    if width * height > MOST_PIXELS:
        raise UserError(f"frames of {width}x{height}; expected at most {MOST_PIXELS / 1e6:.0f} million pixels")
    pixels = stream.read(width * height * 3)
    if len(pixels) < width * height * 3:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def list_images(folder):
    """Image files of a folder, naturally sorted. UserError when two of them are the same frame in different formats."""
    files = [
        file for file in Path(folder).iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    files.sort(key=natural)
    for first, second in itertools.pairwise(files):
        if first.stem == second.stem:
            raise UserError(f"{folder}: {first.name} and {second.name} are the same frame twice; keep one format")
    return files


def natural(file):
    """What files are sorted by so that frame2 comes before frame10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]


def files_fingerprint(files):
    """sha256 over the contents of files, in order."""
    digest = hashlib.sha256()
    for path in files:
        regular_file(path)
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_image(path):
    """A decoded PIL image, upright. UserError when it is unreadable or truncated."""
    check_image_size(path, "an image")
    try:
        with warnings.catch_warnings(), Image.open(path, formats=IMAGE_FORMATS) as image:
            warnings.simplefilter("ignore")  # of sizes, which are checked, and of oddities that are read all the same
            return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UserError(f"{path}: unreadable or truncated image ({str(error)[:100]})") from None


def read_rgb(path):
    """An image file of any kind -> uint8 (H, W, 3)."""
    image = open_image(path)
    if image.mode.startswith(("I", "F")):  # 16-bit gray, of which PIL's own conversion keeps the wrong end
        gray = np.nan_to_num(np.asarray(image).astype(np.float64))
        gray = gray / 257 if gray.max() > 255 else gray
        return np.repeat(np.clip(np.rint(gray), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def read_mask(path):
    """A mask file -> bool (H, W): gray above one half, or any non-zero object number of a palette or label image."""
    image = open_image(path)
    values = np.asarray(image)
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1) if values.shape[2] > 2 else values[..., 0]
    labels = image.mode == "P" or values.max() < LABELS_BELOW
    return values > 0 if labels else values > (32767 if values.max() > 255 else 127)


def processed_size(height, width, max_side):
    """(H, W) after scaling the longer side down to max_side (None: as it is), keeping the aspect."""
    scale = min(1.0, (max_side or np.inf) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(image, size):
    """uint8 image (H, W[, 3]) -> `size` (H, W), each pixel the mean of the area it covers."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def extract_frames(source, folder, options, progress=iter):
    """Write the chosen frames to folder/00000.png ..., and return the manifest's description of the video.

    UserError: unreadable frames, frames of different sizes, fewer than 2.
    """
    digest, original, number = hashlib.sha256(), None, 0
    for number, frame in enumerate(progress(options.select(source.frames(options.fps))), start=1):
        if original is None:
            original, size = frame.shape[:2], checked_size(source, frame, options.max_side)
        if frame.shape[:2] != original:
            found, before = (f"{width}x{height}" for height, width in (frame.shape[:2], original))
            where = frame_name(source, options, number)
            raise UserError(f"{where}: {found} pixels, the frames before it {before}; expected frames of one size")
        frame = shrink(frame, size)
        digest.update(np.ascontiguousarray(frame).data)
        write_image(Path(folder) / f"{number - 1:05d}.png", frame, owner_of_image("color", number - 1))
    if number < 2:
        chosen = f" from frame {options.start} on" if options.start else ""
        raise UserError(f"{source.path or source.name}: {number} frame(s){chosen}; expected at least 2")
    digest.update(str(size).encode())
    return {
        "name": source.name, "source": source.path, "fingerprint": digest.hexdigest(), "num_frames": number,
        "height": size[0], "width": size[1], "original_height": original[0], "original_width": original[1],
        "fps": float(options.fps or source.fps),
    }


def frame_name(source, options, number):
    """The file of the `number`th chosen frame (from 1), or what comes closest."""
    index = (options.start or 0) + number - 1
    if isinstance(source, FolderSource):
        return source.files[index]
    return f"{source.path or source.name} frame {index}"


def checked_size(source, frame, max_side):
    """The processed size of a frame. UserError when a side is too short to compute flow on."""
    size = processed_size(*frame.shape[:2], max_side)
    if min(size) < MIN_SIDE:
        found = f"{size[1]}x{size[0]}"
        raise UserError(f"{source.path or source.name}: frames of {found} pixels; expected sides of {MIN_SIDE} or more")
    return size


@contextlib.contextmanager
def staged_folder(folder):
    """Yield a temporary folder beside `folder` that takes its place on success and is deleted on failure.

    What a dead process left in it goes. UserError: another process has it in hand, or it cannot be made.
    """
    folder = Path(folder)
    replaced = folder.with_name(f".{folder.name}.replaced.tmp")
    with locked_folder(folder.with_name(f".{folder.name}.tmp")) as staged:
        for left in staged.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield staged
            shutil.rmtree(replaced, ignore_errors=True)
            if folder.is_dir():
                os.rename(folder, replaced)  # whole, so that a kill leaves none that is half deleted
            else:
                folder.unlink(missing_ok=True)
            os.replace(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def check_masks(folder, options, video):
    """The mask files of the chosen frames. UserError when their number or a size does not fit the video's frames.

    There may be one for each chosen frame, or one for each frame of the whole video.
    """
    if not Path(folder).is_dir():
        raise UserError(f"--masks {folder}: no such folder; expected a folder of png masks, one a frame")
    files = list_images(folder)
    count, expected = len(files), video["num_frames"]
    if count != expected:
        files = list(options.select(files))
    if len(files) != expected:
        raise UserError(f"--masks {folder}: {count} mask(s); expected {expected}, one a frame")
    return files


def write_masks(folder, destination, options, video):
    """Write a folder of masks to destination/00000.png ... at the frames' size. UserError when they do not fit."""
    size = video["height"], video["width"]
    original = video["original_height"], video["original_width"]
    for number, file in enumerate(check_masks(folder, options, video)):
        mask = read_mask(file)
        if mask.shape not in (size, original):
            found, expected = (f"{width}x{height}" for height, width in (mask.shape, original))
            raise UserError(f"{file}: mask of {found} pixels; expected {expected}, as the frames")
        mask = shrink(mask.astype(np.uint8) * 255, size)
        mask = (mask > 127).astype(np.uint8) * 255
        write_image(Path(destination) / f"{number:05d}.png", mask, owner_of_image("masks", number))
