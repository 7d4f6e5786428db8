"""One of every file that the program reads, and the commands that read it, so that each can be damaged in every way.

A Job is a command in a copy of the workshop's folder, the file that it reads, and what comes out when that is sound.
Its outcome is one of OUTCOMES: refused in one line, done with the result of sound files, done with another result
(which is silently wrong, unless the file is of a kind that any content is right for), a traceback, or a hang.
"""

import contextlib
import hashlib
import io
import json
import shutil
import signal
import traceback
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

import edit
import evaluate
import export
import preprocess.__main__
import track
import train
import viz
from outputs.video import video_writer
from tests.helpers.evaluation import dump, tapvid_example
from tests.helpers.moving_clip import NUM_FRAMES, SIZE, MovingFlow, moving_clip
from tests.helpers.training_run import TINY

REFUSED, SAME, OTHER, TRACEBACK, HANG = OUTCOMES = "refused", "same", "other", "traceback", "hang"
RIGHT = {("resume checkpoint", "gone")}  # job and damage: says that there is none, and begins anew
SECONDS = 60  # that a command of this size may take, on a busy machine
MAINS = {"preprocess": preprocess.__main__.main, "train": train.main, "track": track.main, "viz": viz.main,
         "evaluate": evaluate.main, "export": export.main, "edit": edit.main}


class Job(NamedTuple):
    """`command` (its name and arguments, {} the folder) reads `file`; `results` are what it writes, in the folder.

    free: whether a changed file may well be another right one, so that another result is not wrong.
    """

    name: str
    file: str
    command: tuple
    results: tuple = ()
    free: bool = False


TRAIN = ("train", *TINY, "--data_dir", "{}/data", "--num_iters", "3", "--log_every", "1", "--depth_start", "flat")
TRACK, PREPARE = ("track", "--queries", "grid:8", "--out", "{}/out.npz", "--polish", "off"), ("evaluate", "prepare")
BY_FLOW, BY_MODEL = ("--data_dir", "{}/data"), ("--run", "{}/run", "--refine", "off")
SCORE = ("evaluate", "--ground_truth")
JOBS = [
    *(Job(f"track {file}", f"data/{file}", (*TRACK, *BY_FLOW), ("out.npz",)) for file in (
        "manifest.json", "flow_chained/00001.npy", "valid/00002.npy")),
    *(Job(f"train {file}", f"data/{file}", (*TRAIN, "--out_dir", "{}/new"), ("new/checkpoints/step_000000003.pt",))
      for file in ("manifest.json", "color/00001.png", "flow_chained/00001.npy", "valid/00002.npy")),
    Job("viz frame", "data/color/00001.png", ("viz", *BY_FLOW, "--what", "tracks", "--out", "{}/videos"),
        ("videos/tracks.mp4",)),
    Job("viz mask", "data/masks/00000.png", ("viz", *BY_FLOW, "--what", "trails", "--out", "{}/videos"),
        ("videos/trails.mp4",)),
    Job("track checkpoint", "run/checkpoints/step_000000002.pt", (*TRACK, *BY_MODEL), ("out.npz",)),
    Job("resume checkpoint", "run/checkpoints/step_000000002.pt", (*TRAIN, "--out_dir", "{}/run", "--resume"),
        ("run/checkpoints/step_000000003.pt",)),
    Job("init_from checkpoint", "run/checkpoints/step_000000002.pt",
        (*TRAIN, "--out_dir", "{}/new", "--init_from", "{}/run/checkpoints/step_000000002.pt"),
        ("new/checkpoints/step_000000003.pt",)),
    Job("queries", "tracks.npz", ("track", "--queries", "{}/tracks.npz", *TRACK[3:], *BY_FLOW), ("out.npz",)),
    Job("viz tracks", "tracks.npz", ("viz", *BY_FLOW, "--what", "tracks", "--tracks", "{}/tracks.npz", "--out",
                                     "{}/videos"), ("videos/tracks.mp4",)),
    Job("score tracks", "tracks.npz", (*SCORE, "{}/truth.npz", "--tracks", "{}/tracks.npz", "--out", "{}/s.json"),
        ("s.json",)),
    Job("export csv", "tracks.csv", ("export", "{}/tracks.csv", "--video_size", f"{SIZE[1]}x{SIZE[0]}",
                                     "--out", "{}/t.nk"), ("t.nk",), True),
    Job("edit's mask", "masks/0.png", ("edit", "mask", *BY_FLOW, "--first", "{}/masks/0.png", "--out", "{}/carried"),
        ("carried",), True),
    Job("tracks as evidence", "tracks.npz", ("preprocess", "{}/frames", "--data_dir", "{}/new", "--flow", "dis",
        "--device", "cpu", "--max_interval", "1", "--tracks", "{}/tracks.npz"), ("new/evidence",)),
    Job("correspondences", "known.csv", ("preprocess", "{}/frames", "--data_dir", "{}/new", "--flow", "dis", "--device",
        "cpu", "--max_interval", "1", "--correspondences", "{}/known.csv"), ("new/evidence",), True),
    Job("ground truth", "truth.npz", (*SCORE, "{}/truth.npz", "--tracks", "{}/tracks.npz", "--out", "{}/s.json"),
        ("s.json",)),
    Job("tapvid", "tapvid.pkl", (*PREPARE, "{}/tapvid.pkl", "--out", "{}/tapvid", "--resolution", "0"), ("tapvid",),
        True),
    Job("badja", "dog.json", (*SCORE, "{}/dog.json", "--masks", "{}/masks", "--data_dir", "{}/data", "--baselines",
                              "static", "--out", "{}/s.json"), ("s.json",), True),
    Job("mask images", "masks/3.png", (*SCORE, "{}/masks", "--data_dir", "{}/data", "--baselines", "static", "--out",
                                       "{}/s.json"), ("s.json",), True),
    Job("csv", "kinetics.csv", (*PREPARE, "{}/kinetics.csv", "--videos", "{}/mp4", "--out", "{}/tapvid"), ("tapvid",),
        True),
    Job("preset", "preset.txt", (*TRAIN[:1], "--config", "{}/preset.txt", *TRAIN[3:], "--out_dir", "{}/new"),
        ("new/checkpoints/step_000000003.pt",), True),
    Job("mask", "masks/0.png", (*TRACK, *BY_FLOW, "--mask", "{}/masks/0.png"), ("out.npz",), True),
    *(Job(f"preprocess {file}", file, ("preprocess", source, "--data_dir", "{}/new", "--flow", "dis", "--device", "cpu",
                                       "--max_interval", "1"), ("new/color",), True)
      for file, source in (("frames/2.png", "{}/frames"), ("mp4/clip.mp4", "{}/mp4/clip.mp4"))),
    *(Job(f"heal {file}", f"data/{file}", ("heal",), ("data",)) for file in (
        "color/00003.png", "masks/00003.png", "flow_chained/00003.npy", "valid/00003.npy", "counts/00003.npy")),
]


def heal(folder):
    """The same preprocess command that made the data directory (its flow is given, not estimated)."""
    options = {"masks": folder / "masks", "quiet": True, "device": "cpu"}
    preprocess.build(moving_clip(), folder / "data", flow=MovingFlow(), **options)


def build(folder):
    """Make the workshop."""
    for name, images in (("frames", moving_clip()[..., ::-1]), ("masks", masks())):
        (folder / name).mkdir()
        for i, image in enumerate(images):
            cv2.imwrite(str(folder / name / f"{i}.png"), image)
    heal(folder)
    run("train", *TRAIN[1:], "--out_dir", "{}/run", "--num_iters", "2", folder=folder)
    config = folder / "run/checkpoints/step_000000002.pt"
    state = torch.load(config)
    state["config"]["num_iters"] = 3  # as if it had been stopped there
    torch.save(state, config)
    run(*TRACK, *BY_FLOW, folder=folder)
    (folder / "out.npz").rename(folder / "tracks.npz")
    run("export", "{}/tracks.npz", "--out", "{}/tracks.csv", folder=folder)
    (folder / "known.csv").write_text("frame_1,x_1,y_1,frame_2,x_2,y_2\n0,5,6,1,6,6\n1,9.5,8,3,11,8\n")
    with np.load(folder / "tracks.npz") as tracks:
        np.savez(folder / "truth.npz", target_points=tracks["tracks"] + 0.5, occluded=tracks["occluded"],
                 query_points=tracks["query_points"], video_size=tracks["video_size"])
    dump(folder / "tapvid.pkl", {"goat": tapvid_example(0), "a/b": tapvid_example(1, encoded=True)})
    joints, visible = [[40.0 * k, 30.0 * k] for k in range(37)], [True] * 37
    entries = [{"image_path": f"{i:05d}.jpg", "joints": joints, "visibility": visible} for i in range(NUM_FRAMES)]
    (folder / "dog.json").write_text(json.dumps(entries))
    row = ",".join(f"{0.1 * k:.1f},0.5,0" for k in range(NUM_FRAMES))
    (folder / "kinetics.csv").write_text(f"clip.mp4,{row}\nclip.mp4,{row}\n")
    shutil.copy(Path(train.__file__).parent / "configs/default.txt", folder / "preset.txt")
    (folder / "mp4").mkdir()
    with video_writer(folder / "mp4/clip.mp4", 25) as write:
        for frame in moving_clip():
            write(frame)


def masks():
    """(N, H, W) uint8: a square that moves."""
    images = np.zeros((NUM_FRAMES, *SIZE), np.uint8)
    for i, image in enumerate(images):
        image[4:14, 4 + i : 18 + i] = 255
    return images


def run(name, *arguments, folder):
    """Run a command here -> (exit code or the exception that got out, what it printed on stderr)."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [argument.replace("{}", str(folder)) for argument in arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited(SECONDS):
        try:
            heal(folder) if name == "heal" else MAINS[name](arguments)
            return 0, err.getvalue()
        except SystemExit as stopped:
            return stopped.code, err.getvalue()
        except Exception as error:
            if name == "heal" and type(error).__name__ == "UserError":
                return 2, f"error: {error}"
            return error, "".join(traceback.format_exception(error)[-2:])


class Hang(Exception):  # noqa: N818
    pass


@contextlib.contextmanager
def limited(seconds):
    """Raise Hang within the context after so many seconds."""
    def expire(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def content(path):
    """What tells results apart: of arrays and checkpoints the values, of all else the bytes."""
    if path.is_dir():
        return [(str(file.relative_to(path)), content(file)) for file in sorted(path.rglob("*")) if file.is_file()]
    if not path.exists():
        return None
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}
    if path.suffix == ".pt":
        return {name: weight.numpy().tobytes() for name, weight in torch.load(path)["model"].items()}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results_of(job, folder):
    return [content(folder / result) for result in job.results]


def outcome(job, folder, expected, damage=None):
    """Do a job in a folder whose file was damaged -> its outcome, and why."""
    code, said = run(*job.command, folder=folder)
    if isinstance(code, Hang):
        return HANG, said
    if isinstance(code, Exception):
        return TRACEBACK, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 2 and len(lines) == 1 and "Traceback" not in said:
        left = [file.name for file in folder.rglob(".*.tmp*")]
        return (OTHER, f"left {left}") if left else (REFUSED, lines[0])
    if code != 0:
        return TRACEBACK, f"exit code {code}: {said[-300:]}"
    same = results_of(job, folder) == expected
    return (SAME if same or job.free or (job.name, damage) in RIGHT else OTHER), said[-300:]


def copy_of(workshop, folder):
    """A copy that may be damaged."""
    shutil.copytree(workshop, folder)
    return folder


def sound(workshop, folder):
    """{job: its results when nothing is damaged}. AssertionError where a job is not done."""
    found = {}
    for number, job in enumerate(JOBS):
        here = copy_of(workshop, folder / str(number))
        code, said = run(*job.command, folder=here)
        assert code == 0, (job.name, code, said)
        found[job.name] = results_of(job, here)
        assert all(result is not None for result in found[job.name]), job.name
        shutil.rmtree(here)
    return found
