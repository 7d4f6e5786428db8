"""Commands as functions, and the one line that a user's mistake ends in."""

import contextlib
from pathlib import Path

import pytest

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def call(main, *arguments):
    main([str(argument) for argument in arguments])


def refused(capsys, main, *arguments):
    """The line that a command says why it is refused; nothing else is said, progress aside, and the code is 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call(main, *arguments)
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip() and "frame/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@contextlib.contextmanager
def peak_memory():
    """Yield a list that afterwards holds the peak of this process's memory, and how much that is above before; bytes.

    Both are 0 where the system does not tell.
    """
    peak = []
    if FORGET.exists():
        FORGET.write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    try:
        yield peak
    finally:
        peak += [memory("VmHWM"), memory("VmHWM") - before]


def memory(which):
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(which)), 0)
