"""The whole pipeline on a small clip: python -m benchmarks.demo [--video my.mp4], or `make demo`.

Without --video it makes a synthetic clip with exact ground truth (a moving background, sprites that pass behind one
another and behind a pole), so that the result can be scored. Every command it runs is printed: copy them for your own.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.scenes import make_scene
from util import UserError, command

ROOT = Path(__file__).resolve().parents[1]
MAX_SIDE, MAX_FRAMES = 192, 40  # of a user's own video, so that a laptop CPU is done in minutes


def run(*arguments):
    """Run one of the project's commands with this Python, shown as a user would type it."""
    arguments = [str(argument) for argument in arguments]
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT)
    if result.returncode:
        raise UserError(f"the step above failed (exit code {result.returncode})")


def preprocess_arguments(arguments, out):
    """Input and options of the preprocessing: the user's video, cut and shrunk, or the synthetic clip."""
    if arguments.video:
        return [Path(arguments.video).resolve(), "--max_side", MAX_SIDE, "--end", MAX_FRAMES]
    make_scene("demo", seed=0, num_frames=24, height=112, width=160).save(out / "clip")
    print(f"synthetic clip, with its ground truth: {out / 'clip'}")
    return [out / "clip" / "frames"]


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", metavar="FILE", help="your own video file or folder of frames")
    parser.add_argument("--out", metavar="DIR", default="demo", help="where everything goes; replaced [demo]")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time [5]")
    arguments = parser.parse_args(argv)
    if arguments.video and not Path(arguments.video).exists():
        raise UserError(f"--video {arguments.video}: no such file or folder")
    start, out = time.monotonic(), Path(arguments.out).resolve()
    marker = out / ".made-by-demo"  # only a folder of an earlier demo is ever deleted
    if out.exists():
        if not marker.exists():
            raise UserError(f"--out {out}: exists and was not made by the demo; choose another folder")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    marker.touch()

    data, runs, tracks, videos, page = (out / name for name in ("data", "run", "tracks.npz", "videos", "page.html"))
    run("-m", "preprocess", *preprocess_arguments(arguments, out), "--data_dir", data, "--keep_direct")
    run("train.py", "--config", "configs/default.txt", "--data_dir", data, "--out_dir", runs, "--max_minutes",
        arguments.minutes)
    run("track.py", "--run", runs, "--queries", "grid:8@0", "--out", tracks)
    if not arguments.video:
        run("evaluate.py", "--ground_truth", out / "clip" / "ground_truth.npz", "--run", runs,
            "--rows", "model,both", "--baselines", "flow,direct,chained,mft,static", "--data_dir", data,
            "--out", out / "scores.md")
    run("viz.py", "--run", runs, "--out", videos, "--scale", 1 if arguments.video else 3)
    run("view.py", "--run", runs, "--save", page)
    print(f"\ndone in {(time.monotonic() - start) / 60:.1f} minutes. Look at the videos in {videos}; tracks: {tracks}\n"
          f"Open in a browser, and click: {page}")


if __name__ == "__main__":
    main()
