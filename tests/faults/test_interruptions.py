"""Every command, interrupted at any of its writes by a full disk or a kill, goes on to what it would have made."""

import os
import signal

import pytest

from tests.faults import workshop
from tests.faults.campaign import WRITING, forked, prepared

MOMENTS = (0, 1, 3)  # writes that succeed before
HERE = [name for name in WRITING if "workers" not in name]  # others write elsewhere: tests/preprocess/test_workers.py


@pytest.fixture(scope="module")
def expected(made, tmp_path_factory):
    found = {}
    for name in HERE:
        arguments, results = WRITING[name]
        folder = prepared(made, tmp_path_factory.mktemp("sound") / "here", name)
        assert workshop.run(*arguments, folder=folder)[0] == 0
        found[name] = [workshop.content(folder / result) for result in results]
    return found


def failing(fail, after):
    """An fsync that fails at each call after so many."""
    real, left = os.fsync, [after]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            fail()
        real(descriptor)

    return fsync


def full():
    raise OSError(28, "No space left on device")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("fail", [full, killed])
@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("name", HERE)
def test_interrupted_at_a_write(made, expected, tmp_path, monkeypatch, name, after, fail):
    (arguments, results), folder = WRITING[name], prepared(made, tmp_path / "here", name)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(fail, after))
        code, said = forked(arguments, folder)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code in ((0, 2) if fail is full else (0, -signal.SIGKILL)), said
    if code == 2:
        assert len(lines) == 1 and "the disk is full while writing" in lines[0] and "free" in lines[0]
    code, said = forked(arguments, folder)
    assert code == 0, said
    assert [workshop.content(folder / result) for result in results] == expected[name]
    assert not list(folder.rglob(".*.tmp*"))
