"""Files made to do harm: to run code, to take memory or time, to reach out to the network, or to pass for others.

Each entry of EVIL makes files in a folder (a copy of the workshop's) and gives the command that is to refuse them in
one line. Code that runs would leave the file `ran` there; whoever is connected to is at the port in the file `port`.
"""

import json
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import torch

from tests.faults.workshop import BY_FLOW, PREPARE, SCORE, TRACK, TRAIN
from tests.helpers.evaluation import dump, tapvid_example

HUGE = 10**12


class Runs:
    """Unpickled, it makes the file `ran`."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "ran"),)


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def png(width, height):
    """A small file of a huge black image, one bit a pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npz(path, **members):
    """An .npz file of members that are bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def header(shape, dtype="<f4"):
    text = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def tapvid(**changes):
    """The command that reads a TAP-Vid file with one video, with these changes."""

    def make(folder):
        entries = {name: change(folder) if callable(change) else change for name, change in changes.items()}
        dump(folder / "evil.pkl", {"goat": tapvid_example(0) | entries})
        return *PREPARE, "{}/evil.pkl", "--out", "{}/prepared"

    return make


def pickled(content):
    def make(folder):
        (folder / "evil.pkl").write_bytes(content(folder) if callable(content) else content)
        return *PREPARE, "{}/evil.pkl", "--out", "{}/prepared"

    return make


def checkpoint(change):
    """The command that opens a checkpoint to which something was done."""

    def make(folder):
        path = folder / "run/checkpoints/step_000000002.pt"
        state = torch.load(path)
        torch.save(change(state, folder) or state, path)
        return *TRACK, "--run", "{}/run", "--refine", "off"

    return make


def without(key):
    return checkpoint(lambda state, _: {name: value for name, value in state.items() if name != key})


def updated(key, **values):
    return checkpoint(lambda state, _: state[key].update(values))


def nan_weights(state, _):
    next(iter(state["model"].values())).fill_(float("nan"))


def arrays(**changed):
    """The command that reads a ground truth of which arrays were changed."""

    def make(folder):
        with np.load(folder / "truth.npz") as truth:
            np.savez(folder / "truth.npz", **dict(truth) | changed)
        return *SCORE, "{}/truth.npz", "--tracks", "{}/tracks.npz"

    return make


def claims(content):
    def make(folder):
        npz(folder / "evil.npz", query_points=content)
        return *TRACK[:2], "{}/evil.npz", *TRACK[3:], *BY_FLOW

    return make


def video(text, name="evil.mp4"):
    """The command that preprocesses a file of that text; {port} is where a connection would be noticed."""

    def make(folder):
        port = (folder / "port").read_text()
        content = text if isinstance(text, bytes) else text.replace("{port}", port).replace("{}", str(folder)).encode()
        (folder / name).write_bytes(content)
        return "preprocess", f"{{}}/{name}", "--data_dir", "{}/new", "--flow", "dis"

    return make


def image(content, name, *command):
    def make(folder):
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content() if callable(content) else content)
        return command

    return make


def frames(make_one):
    """The command that preprocesses a folder of frames in which one was replaced."""

    def make(folder):
        path = folder / "frames/2.png"
        path.unlink()
        make_one(path)
        return "preprocess", "{}/frames", "--data_dir", "{}/new", "--flow", "dis"

    return make


def text(name, content, *command):
    def make(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return command

    return make


BADJA = (*SCORE, "{}/dog.json", "--masks", "{}/masks", "--data_dir", "{}/data", "--baselines", "static")
CSV = (*PREPARE, "{}/kinetics.csv", "--videos", "{}/mp4", "--out", "{}/tapvid")
PRESET = ("train", "--config", "{}/preset.txt", *TRAIN[3:], "--out_dir", "{}/new")
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
EVIL = {
    "pickle that runs": tapvid(points=Runs),
    "pickle by its name alone": pickled(lambda folder: pickle.dumps(Runs(folder))),
    "bytearray of a size": tapvid(video=Calls(bytearray, HUGE)),
    "bytes of a size": tapvid(video=Calls(bytes, HUGE)),
    "bytearray claimed": pickled(b"\x80\x05\x96" + struct.pack("<Q", HUGE)),
    "bytes claimed": pickled(b"\x80\x04\x8e" + struct.pack("<Q", HUGE)),
    "array of a size": tapvid(points=Calls(np._core.multiarray._reconstruct, np.ndarray, (HUGE,), b"d")),
    "array made anew": tapvid(points=Calls(np.ndarray, (HUGE,))),
    "object array": tapvid(points=np.array([{}, None])),
    "nested lists": pickled(b"\x80\x04" + b"(l" * 10**5 + b"."),
    "no frames": tapvid(video=[]),
    "no frames in an array": tapvid(video=np.zeros((0, 4, 4, 3), np.uint8)),
    "empty jpeg": tapvid(video=[b""] * 11),
    "bomb as a frame": tapvid(video=lambda _: [png(30000, 30000)] * 11),
    "frames that are numbers": tapvid(video=[1] * 11),
    "points that are text": tapvid(points="there"),
    "points that are not finite": tapvid(points=np.full((6, 11, 2), np.nan)),
    "a list of nothing": pickled(b"\x80\x04N."),
    "checkpoint that runs": checkpoint(lambda _, folder: {"model": Runs(folder)}),
    "checkpoint without a model": without("model"),
    "checkpoint without a video": without("video"),
    "checkpoint without a version": without("version"),
    "checkpoint without a config": without("config"),
    "checkpoint with NaN": checkpoint(nan_weights),
    "checkpoint of a billion frames": updated("video", num_frames=10**7),
    "checkpoint of a huge frame": updated("video", height=2**16, width=2**16),
    "checkpoint of a wide field": updated("config", field_width=4096, field_layers=16),
    "checkpoint of fps NaN": updated("video", fps=float("nan")),
    "checkpoint of words": updated("config", field_width="x"),
    "npz of a size": claims(header((HUGE, 3))),
    "npz of a negative size": claims(header((-1, 3))),
    "npz of objects": claims(pickle.dumps([1]) and header((1,), "|O") + pickle.dumps([1])),
    "npz bomb": claims(header((3 * 10**7, 3)) + bytes(36 * 10**7)),
    "npz of dates": claims(header((1, 3), "<M8[s]") + bytes(24)),
    "truth of other numbers": arrays(occluded=np.zeros((2, 3))),
    "truth of text": arrays(target_points=np.array(["a"])),
    "truth of NaN": arrays(target_points=np.full((15, 6, 2), np.nan)),
    "truth of size NaN": arrays(video_size=[np.nan, 4]),
    "truth of no size": arrays(video_size=[0, 0]),
    "truth of many sizes": arrays(video_size=np.ones(5)),
    "queries of NaN": arrays(query_points=np.full((15, 3), np.nan)),
    "bomb as a frame of a folder": frames(lambda path: path.write_bytes(png(30000, 30000))),
    "bomb as a mask": image(lambda: png(30000, 30000), "bomb.png", *TRACK, *BY_FLOW, "--mask", "{}/bomb.png"),
    "bomb as a mask of the truth": image(
        lambda: png(30000, 30000), "masks/3.png", *SCORE, "{}/masks", "--data_dir", "{}/data", "--baselines", "static"
    ),
    "bomb in the data directory": image(
        lambda: png(30000, 30000), "data/color/00001.png", "viz", *BY_FLOW, "--what", "tracks", "--out", "{}/videos"
    ),
    "a program as a frame": frames(
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage")
    ),
    "a folder as a frame": frames(lambda path: path.mkdir()),
    "a pipe as a frame": frames(os.mkfifo),
    "a device as a frame": frames(lambda path: os.symlink("/dev/zero", path)),
    "ffconcat": video("ffconcat version 1.0\nfile '{}/mp4/clip.mp4'\n"),
    "m3u8": video(PLAYLIST),
    "m3u8 by its name": video(PLAYLIST, "evil.m3u8"),
    "sdp": video(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n", "evil.sdp"
    ),
    "text as a video": video("hello\n" * 100),
    "a file of /proc": lambda _: ("preprocess", "/proc/self/status", "--data_dir", "{}/new", "--flow", "dis"),
    "nested json": text("dog.json", "[" * 10**5, *BADJA),
    "json of numbers": text("dog.json", "[1, 2]", *BADJA),
    "json of NaN": text(
        "dog.json",
        json.dumps([{"image_path": "1.jpg", "joints": [[float("nan")] * 2] * 37, "visibility": [True] * 37}]),
        *BADJA,
    ),
    "csv with a NUL": text("kinetics.csv", "a,0,1,\0,0.5,0\n", *CSV),
    "csv of infinity": text("kinetics.csv", "clip.mp4,inf,0,0\n", *CSV),
    "csv of a long field": text("kinetics.csv", "a," + "1" * 200_000 + "\n", *CSV),
    "csv of nothing": text("kinetics.csv", "\n", *CSV),
    "preset with a section": text("preset.txt", "[run]\nseed = 1\n", *PRESET),
    "preset with a key twice": text("preset.txt", "seed = 1\nseed = 2\n", *PRESET),
    "preset in other digits": text("preset.txt", "seed = \u0661\u0662\n", *PRESET),
    "preset of nothing to learn": text("preset.txt", "lr_mapping = 0\nlr_field = 0\nlr_code = 0\n", *PRESET),
}
