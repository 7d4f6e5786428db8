"""A run fitted to its pins while the page is open: train.py --pins, in a process of its own, one at a time."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from util import UserError

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
GRACE = 5  # seconds that a cancelled process has to end by itself


class Fitting:
    """Starts, watches and ends the process.

    run: the folder, or the checkpoint, that is fitted; the new run goes beside its folder. pins: the file;
    opened(folder): called with the new run when it is there; options: further ones of train.py.
    """

    def __init__(self, run, pins, opened, options=(), program=(sys.executable, str(TRAIN))):
        self.run, self.pins, self.opened, self.options, self.program = Path(run), pins, opened, options, program
        self.lock, self.process, self.thread = threading.Lock(), None, None
        self.state, self.line, self.began = "idle", "", 0.0

    def status(self):
        """state: idle, running, done, failed or cancelled; the newest line that was said; seconds it has run."""
        seconds = time.monotonic() - self.began if self.state == "running" else 0.0
        return {"state": self.state, "line": self.line, "seconds": round(seconds, 1)}

    def start(self):
        """Begin. UserError: one runs already, or nothing is pinned."""
        with self.lock:
            if self.state == "running":
                raise UserError("the run is being fitted already; wait for it, or cancel it")
            if not self.pins.exists():
                raise UserError("nothing is pinned yet: pin a point in another frame than the one it was asked in")
            folder = new_folder(folder_of(self.run))
            command = [*self.program, "--pins", self.pins, "--init_from", self.run, "--out_dir", folder, *self.options]
            self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, errors="replace",
                                            env=os.environ | {"PYTHONUNBUFFERED": "1"})
            self.state, self.line, self.began = "running", "started", time.monotonic()
            self.thread = threading.Thread(target=self.watch, args=(self.process, folder), daemon=True)
            self.thread.start()

    def watch(self, process, folder):
        """Follow the process to its end, and open what it made."""
        said = []
        for line in process.stdout:  # progress bars end in \r, which text mode reads as the end of a line
            if line.strip():
                said.append(line.strip())
                self.line = said[-1][:300]
        code = process.wait()
        if self.state == "cancelled" or code:
            shutil.rmtree(folder, ignore_errors=True)  # it was made for this
        try:
            if self.state == "cancelled":
                self.line = "cancelled"
                return
            if code:
                errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
                raise UserError(errors[-1] if errors else f"{' '.join(said[-1:])} (train.py ended with {code})")
            self.opened(folder)
            self.state, self.line = "done", f"{folder}: {next((line for line in said if ' pins: ' in line), 'fitted')}"
        except Exception as error:  # of what was made, too: the page is to be told, whatever it is
            self.state, self.line = "failed", " ".join(str(error).split())[:500]

    def cancel(self):
        """End a process that runs; nothing is left of it."""
        with self.lock:
            if self.state != "running":
                return
            self.state = "cancelled"
            self.process.terminate()
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.thread.join()


def folder_of(run):
    """The folder of a run, given that or one of its checkpoints."""
    run = run.resolve()
    return run if run.is_dir() else run.parents[1] if run.parent.name == "checkpoints" else run.parent


def new_folder(run):
    """Make a folder beside a run's, of its name and the first number that is free. UserError: it cannot be made."""
    base, number = re.sub(r"-pins-\d+$", "", run.name), 1
    while True:
        folder = run.parent / f"{base}-pins-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: cannot make this folder ({error.strerror})") from None
        else:
            return folder
