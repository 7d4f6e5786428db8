"""Doing some stages of one video: commands as processes, their words in log.txt, their progress in status.json.

A process that is started here ends with this one, however that ends, so that whoever takes a video up again is alone.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2

from loaders.data_dir import read_image
from pipeline import plan as plans
from pipeline import status
from util import UserError, atomic_path

THUMBNAIL = 160  # pixels of its longer side
LONGEST_REASON = 300  # characters
MEMORY = re.compile(r"out of (GPU )?memory|want of memory|MemoryError|can(not|'t) allocate memory", re.IGNORECASE)
WITH_PARENT = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; Linux only
except (AttributeError, OSError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(137)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Outcome:
    """kind: ok; input: trying again gives the same; memory: there was too little; crash: anything else."""

    kind: str = "ok"
    reason: str = ""


class FailedError(Exception):
    def __init__(self, kind, reason):
        super().__init__(reason)
        self.outcome = Outcome(kind, reason)


def carry_out(plan, names, cores=None, frugal=False):
    """Do those of the stages that are left -> Outcome. Waits for whoever has the video in hand.

    cores: that preprocessing may take (None: as many as there are). frugal: take less memory.
    """
    folder = Path(plan.folder)
    if not (folder.parent / plans.FILE).exists():
        return Outcome("input", f"{socket.gethostname()} does not see {folder.parent}: results need a folder that all "
                                "machines share")
    try:
        folder.mkdir(exist_ok=True)
        with status.locked(folder):
            do_stages(plan, names, cores, frugal)
        return Outcome()
    except FailedError as failure:
        return failure.outcome
    except UserError as error:
        return Outcome("input", str(error))
    except OSError as error:
        return Outcome("crash", f"{error.strerror or error} ({error.filename})")


def do_stages(plan, names, cores, frugal):
    for stage in plan.stages:
        if stage.name in names and stage.name in plans.left(plan):
            shared_out = stage.name == "data" and cores and "--workers" not in stage.commands[0]
            workers = ["--workers", str(cores)] if shared_out else []
            do_stage(plan, stage, [*workers, *(stage.frugal if frugal else ())])
            if stage.name == "data":
                write_thumbnail(plan)
            elif stage.name == "score":
                status.update(plan.folder, figures=figures_of(plan))
    if not plans.left(plan):
        tidy(plan)
        status.update(plan.folder, state="done", stage=None, reason=None, node=None, since=None)


def do_stage(plan, stage, options):
    """Run a stage's commands, with further options. FailedError: one of them did."""
    stages = status.read(plan.folder)["stages"]
    again = stages.get(stage.name, {}).get("key") == stage.key
    options = [*prepare(plan, stage, again), *options]
    stages[stage.name] = {"key": stage.key, "state": "begun"}
    status.update(plan.folder, name=plan.name, source=plan.video.source, state="running", stage=stage.name,
                  node=socket.gethostname(), since=time.time(), reason=None, stages=stages)
    began, cpu, memory = time.monotonic(), 0, 0
    for command in stage.commands:
        usage = run([*command, *options], Path(plan.folder) / "log.txt")
        cpu, memory = cpu + usage.ru_utime + usage.ru_stime, max(memory, usage.ru_maxrss * 1024)
    stages[stage.name] |= {"state": "done", "seconds": round(time.monotonic() - began, 2),
                           "cpu_seconds": round(cpu, 2), "memory": memory}
    status.update(plan.folder, stages=stages)


def prepare(plan, stage, again):
    """Make way for a stage; -> further options of its command. `again`: it was begun with the same settings."""
    product = Path(plan.folder) / stage.product
    if stage.name == "fit" and again and any(product.glob("checkpoints/step_*.pt")):
        return ["--resume"]
    if stage.name in ("fit", "videos", "exports") and product.exists():
        shutil.rmtree(product)
    if stage.name in ("data", "exports"):
        product.parent.mkdir(parents=True, exist_ok=True)
    return []


def run(arguments, log):
    """Run one of the project's commands with this Python -> its resource usage. FailedError, with its last words."""
    arguments = [str(argument) for argument in arguments]
    launcher = [sys.executable, "-S", "-E", "-c", WITH_PARENT, str(os.getpid()), sys.executable]
    with open(log, "ab") as file:
        file.write(f"\n$ python {shlex.join(arguments)}\n".encode())
        file.flush()
        start = file.tell()
        process = subprocess.Popen([*launcher, *arguments], cwd=plans.ROOT, stdin=subprocess.DEVNULL, stdout=file,
                                   stderr=subprocess.STDOUT)
        code, usage = wait(process)
    with open(log, "rb") as file:
        file.seek(start)
        words = file.read().decode(errors="replace")
    if code or "; go on with --resume" in words:
        raise FailedError(*what_failed(code, words, Path(arguments[1] if arguments[0] == "-m" else arguments[0]).stem))
    return usage


def wait(process):
    """(exit code, resource usage). An interrupted command is waited for: it is saving what it has."""
    try:
        _, code, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        os.wait4(process.pid, 0)
        raise
    process.returncode = os.waitstatus_to_exitcode(code)  # or Popen would wait for it again
    return process.returncode, usage


def what_failed(code, words, name):
    """(kind, reason): of what a command said last, and how it ended."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", words) if line.strip()]
    told = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
    last = lines[-1] if lines else "nothing was said"
    if code == 0:
        return "crash", f"{name}: {next(line for line in lines if '; go on with --resume' in line)}"
    if code in (-9, 137) and told is None:
        return "memory", f"{name} was killed (for want of memory?)"
    reason = (told or f"{name} ended with {'signal' if code < 0 else 'exit code'} {abs(code)}: {last}")[:LONGEST_REASON]
    if MEMORY.search(told or last):
        return "memory", reason
    return ("input" if code == 2 and told else "crash"), reason


def write_thumbnail(plan):
    frame = read_image(Path(plan.data) / "color" / "00000.png")
    scale = min(1, THUMBNAIL / max(frame.shape[:2]))
    size = [max(1, round(side * scale)) for side in frame.shape[1::-1]]
    encoded = cv2.imencode(".jpg", cv2.resize(frame, size, interpolation=cv2.INTER_AREA)[..., ::-1])[1]
    with atomic_path(Path(plan.folder) / "thumbnail.jpg") as temporary:
        temporary.write_bytes(encoded.data)


def figures_of(plan):
    """What evaluate.py has written of the video's run: {name: value}."""
    videos = status.read_json(Path(plan.folder) / "score.json")["videos"]
    row = next(iter(next(iter(videos.values())).values()))
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


def tidy(plan):
    for folder in plans.tidy_list(plan):
        shutil.rmtree(folder, ignore_errors=True)
