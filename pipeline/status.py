"""A video's status.json: its state, what it is doing, what was done with which settings, what that took.

    state     waiting, running, done or failed; reason: one line, of a failure
    stage     the one in hand, or that failed; node: where; since: when it began (seconds since 1970)
    stages    {stage: {key: of its settings and of all that it is made from, state: begun or done, seconds,
              cpu_seconds, memory: bytes of its largest process}}
    figures   {name: value} of --evaluate
"""

import contextlib
import json
import os
from pathlib import Path

from util import atomic_path

FILE = "status.json"


def read(folder):
    """The status in a video's folder; a new one where there is none (or none that can be read)."""
    status = read_json(Path(folder) / FILE)
    return status if isinstance(status.get("stages"), dict) else {"state": "waiting", "stages": {}}


def read_json(path):
    """The dict in a file; {} where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def update(folder, **changes):
    """Write the status with some entries replaced, and return it; an entry of None goes."""
    status = {key: value for key, value in (read(folder) | changes).items() if value is not None}
    write_json(Path(folder) / FILE, status)
    return status


def begin(folder, **changes):
    """As update, of a folder that may not be there yet."""
    Path(folder).mkdir(exist_ok=True)
    return update(folder, **changes)


def write_json(path, content):
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def locked(folder, wait=True):
    """Hold a folder for this process; yields whether it is held. wait False: not when another process has it.

    Whoever dies lets go. Where there are no locks (Windows, some network file systems) it is held by all.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    descriptor = os.open(Path(folder) / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        held = True
    except BlockingIOError:
        held = False
    except OSError:  # no locks here
        held = True
    try:
        yield held
    finally:
        os.close(descriptor)
