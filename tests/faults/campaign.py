"""The whole campaign: python -m tests.faults.campaign [--kills N] [--seed N]; prints the table of docs/reliability.md.

Commands are run in forks of this process, which has imported everything: so a kill costs a fraction of a second.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from tests.faults import workshop
from tests.faults.damage import DAMAGE
from tests.faults.evil import EVIL
from tests.faults.workshop import HANG, OTHER, REFUSED, SAME, TRACEBACK, TRACK, TRAIN
from tests.helpers.commands import peak_memory
from util import command

SIZES = [0, 8, 20, 40, 80, 120, 200, 300, 500, 800, 1200, 2000]  # kilobytes of a disk; then there is room
ROOM = "64m"
WRITING = {  # commands that write, and what they leave
    "preprocess": (("heal",), ("data",)),
    "train": ((*TRAIN, "--save_every", "1", "--num_iters", "8", "--resume", "--out_dir", "{}/new"),
              ("new/checkpoints/step_000000008.pt",)),
    "track": ((*TRACK, "--flow", "0", "3", *workshop.BY_FLOW[:1], "{}/data.sound"),
              ("out.npz", "flow_00000_00003.flo", "flow_00000_00003_visible.png")),
    "track, depth": (("track", "--run", "{}/run", "--depth", "--out", "{}/depth"), ("depth",)),
    "viz": (("viz", "--data_dir", "{}/data.sound", "--what", "tracks,flow", "--out", "{}/videos"), ("videos",)),
    "preprocess, two workers": (("preprocess", "{}/frames", "--data_dir", "{}/new", "--flow", "dis", "--device", "cpu",
                                 "--workers", "2"), tuple(f"new/{name}" for name in (
                                     "color", "flow_chained", "valid", "counts"))),
    "export": (("export", "{}/tracks.npz", "--out", "{}/t.nk", "--overwrite"), ("t.nk",)),
    "edit mask": (("edit", "mask", "--data_dir", "{}/data.sound", "--first", "{}/masks/0.png", "--out", "{}/carried",
                   "--overwrite"), ("carried/mask.mp4", "carried/masks")),
    "evaluate prepare": ((*workshop.PREPARE, "{}/tapvid.pkl", "--out", "{}/tapvid"), ("tapvid",)),
    "evaluate": (("evaluate", "--ground_truth", "{}/truth.npz", "--tracks", "{}/tracks.npz", "--out", "{}/s.json"),
                 ("s.json",)),
}


class Table:
    """Counts of each group's outcomes."""

    def __init__(self):
        self.rows, self.peak, self.refused = {}, 0, 0

    def add(self, group, outcome, what):
        """Count an outcome, (which, why), and print it unless it is as it should be."""
        found, why = outcome
        row = self.rows.setdefault(group, dict.fromkeys((*workshop.OUTCOMES, "left behind"), 0))
        row[found] += 1
        if found not in (REFUSED, SAME):
            print(f"{group}: {found}: {what}: {' / '.join(str(why).splitlines())[-300:]}", flush=True)

    def __str__(self):
        head = ("group", "tried", "done right", "refused", "tracebacks", "silently wrong", "hangs", "left behind")
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for group, row in self.rows.items():
            cells = (group, sum(row.values()), row[SAME], row[REFUSED], row[TRACEBACK], row[OTHER], row[HANG],
                     row["left behind"])
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        return "\n".join(lines)


def forked(arguments, folder, seconds=None):
    """Run a command in a child -> its exit code (3: a traceback; -9: killed, after so many seconds), what it said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                code, message = workshop.run(*arguments, folder=folder)
                os.write(said.fileno(), message.encode(errors="replace"))
                os._exit(code if code in (0, 2) else 3)
            os._exit(3)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read().decode()


def prepared(made, folder, name):
    """A copy of the workshop for a command that writes: what it is to make is not there yet."""
    workshop.copy_of(made, folder)
    shutil.move(folder / "data", folder / "data.sound")
    if name == "train":
        shutil.copytree(folder / "data.sound", folder / "data")
    return folder


def finished(arguments, results, folder, expected):
    """Let a command that was interrupted end -> an outcome, and why."""
    code, said = forked(arguments, folder)
    if code != 0:
        return TRACEBACK if code == 3 else OTHER, said
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*.tmp*")]
    if left:
        return "left behind", left
    return (SAME if [workshop.content(folder / result) for result in results] == expected else OTHER), said


def uninterrupted(made, folder):
    """{name of a command that writes: (seconds that it takes, its results)}."""
    found = {}
    for name, (arguments, results) in WRITING.items():
        here, began = prepared(made, folder / name.replace(" ", "_"), name), time.monotonic()
        code, said = forked(arguments, here)
        assert code == 0, (name, said)
        found[name] = time.monotonic() - began, [workshop.content(here / result) for result in results]
    return found


def kills(made, folder, expected, table, number, choose):
    """Kill commands at random moments, one to three times, and let them end."""
    for k in range(number):
        name = list(WRITING)[k % len(WRITING)]
        arguments, results = WRITING[name]
        here, (seconds, sound) = prepared(made, folder / f"kill{k}", name), expected[name]
        for _ in range(choose.randint(1, 3)):
            forked(arguments, here, choose.uniform(0, 1.1 * seconds))
        table.add(f"killed: {name}", finished(arguments, results, here, sound), f"kill {k}")
        shutil.rmtree(here)


def two_at_once(made, folder, expected, table, number, choose):
    """The same command twice at the same time: both are done, or one is refused; then all is as it should be."""
    for k in range(number):
        name = list(WRITING)[k % len(WRITING)]
        arguments, results = WRITING[name]
        here, (seconds, sound) = prepared(made, folder / f"two{k}", name), expected[name]
        first = os.fork()
        if first == 0:
            os._exit(min(forked(arguments, here)[0], 3))
        time.sleep(choose.uniform(0, seconds / 2))
        code, said = forked(arguments, here)
        other = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        if 3 in (code, other):
            table.add("two at once", (TRACEBACK, said), name)
        else:
            table.add("two at once", finished(arguments, results, here, sound), name)
        shutil.rmtree(here)


def full_disks(made, folder, expected, table):
    """Commands on disks of several sizes: one line each, and done when there is room."""
    for name, (arguments, results) in WRITING.items():
        for size in SIZES:
            here = folder / "disk"
            here.mkdir()
            base = sum(file.stat().st_size for file in made.rglob("*") if file.is_file()) // 1024 + 300
            with mounted(here, f"{2 * base + size}k"):
                inside = prepared(made, here / "in", name)
                fill(here, size)
                code, said = forked(arguments, inside)
                table.refused += code == 2
                lines = [line for line in said.splitlines() if line.startswith("error: ")]
                if code not in (0, 2) or code == 2 and (len(lines) != 1 or "the disk is full" not in lines[0]
                                                        and "are free" not in lines[0]):
                    table.add("full disks", (TRACEBACK, said), f"{name} {size} kB")
                else:
                    (here / "fill").unlink()
                    subprocess.run(["mount", "-o", f"remount,size={ROOM}", here], check=True)
                    table.add("full disks", finished(arguments, results, inside, expected[name][1]), name)
            here.rmdir()


def fill(disk, left):
    """Leave so many kilobytes of a disk."""
    free = shutil.disk_usage(disk).free - 1024 * left
    (disk / "fill").write_bytes(bytes(max(free, 0)))


@contextlib.contextmanager
def mounted(folder, size):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def damaged(made, folder, table):
    """Every job with every damage."""
    sound = workshop.sound(made, folder)
    for job in workshop.JOBS:
        for name, damage in DAMAGE.items():
            here = workshop.copy_of(made, folder / "damaged")
            damage(here / job.file)
            outcome = workshop.outcome(job, here, sound[job.name], name)
            table.add("damaged files", outcome, f"{job.name}, {name}")
            shutil.rmtree(here)


def evil(made, folder, table):
    """Every evil file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name, make in EVIL.items():
            here = workshop.copy_of(made, folder / "evil")
            (here / "port").write_text(str(server.getsockname()[1]))
            arguments = make(here)
            with peak_memory() as peak:
                code, said = workshop.run(*arguments, folder=here)
            table.peak = max(table.peak, peak[1])
            found = REFUSED if code == 2 and said.count("error: ") == 1 else TRACEBACK if code != 0 else OTHER
            with contextlib.suppress(BlockingIOError):
                server.accept()
                found, said = OTHER, "connected"
            if (here / "ran").exists():
                found, said = OTHER, "ran"
            table.add("evil files", (found, said), name)
            shutil.rmtree(here)


@command
def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=130, help="how often commands are killed (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=30, help="how often two run at once (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=WRITING, default=[*WRITING], metavar="COMMAND",
                        help="of those that write (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of what is random (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name in WRITING.keys() - set(options.only):
        del WRITING[name]
    table, choose, began = Table(), random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "workshop"
        made.mkdir()
        workshop.build(made)
        for part in ("sound", "killed", "pairs", "disks", "damaged", "evil"):
            (Path(work) / part).mkdir()
        expected = uninterrupted(made, Path(work) / "sound")
        kills(made, Path(work) / "killed", expected, table, options.kills, choose)
        two_at_once(made, Path(work) / "pairs", expected, table, options.pairs, choose)
        if os.geteuid() == 0 and shutil.which("mount"):
            full_disks(made, Path(work) / "disks", expected, table)
        damaged(made, Path(work) / "damaged", table)
        evil(made, Path(work) / "evil", table)
    print(table)
    print(f"full disks that stopped a command, in a line, before there was room: {table.refused}")
    print(f"memory that an evil file took, beyond what the process had: at most {table.peak / 1e6:.0f} MB")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
