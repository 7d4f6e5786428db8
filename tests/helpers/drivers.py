"""run.py as a process, watched and interfered with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.paths import ROOT


def start(log, *arguments):
    """run.py with these arguments, its words in the file `log`."""
    with open(log, "wb") as file:
        return subprocess.Popen([sys.executable, "run.py", *map(str, arguments)], cwd=ROOT, stdout=file, stderr=file,
                                env=os.environ | {"RAY_worker_niceness": "0"})  # not after all other tests


def wait_for(condition, driver=None, seconds=600):
    """Wait until condition() is true and return it; not if the driver ends before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited for too long"
        assert driver is None or driver.poll() is None, "the driver has ended"
        time.sleep(0.02)
    return found


def training(out):
    """(process, its parent, video) of a training into the results `out` that has saved something, or None."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended
            continue
        if "train.py" in words:
            run_dir = Path(words[words.index("--out_dir") + 1])
            if run_dir.is_relative_to(out) and any(run_dir.glob("checkpoints/step_*.pt")):
                return int(folder.name), parent, run_dir.parent.name
    return None


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
