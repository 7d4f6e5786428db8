"""Evil files are refused in one line: nothing runs, nothing is sent, and little memory is taken."""

import socket

import pytest

from tests.faults import workshop
from tests.faults.evil import EVIL
from tests.helpers.commands import peak_memory

MEMORY = 250e6  # bytes more than before


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    workshop.build(folder)
    return folder


@pytest.fixture
def listener():
    """A port at which no one is to call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("name", EVIL)
def test_evil_files_are_refused(made, tmp_path, listener, name):
    folder = workshop.copy_of(made, tmp_path / "here")
    (folder / "port").write_text(str(listener.getsockname()[1]))
    command = EVIL[name](folder)
    with peak_memory() as peak:
        code, said = workshop.run(*command, folder=folder)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1, (code, said)
    assert peak[1] < MEMORY
    assert not (folder / "ran").exists()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_names_of_videos_are_names_of_folders_in_the_folder(made, tmp_path):
    names = ["../out", "a/b", "a_b", "/etc/x", "nul\0", "..", "x" * 300, "x" * 301, ".hidden", "\\\\host\\share", ""]
    from evaluation.tapvid import safe_name
    found = [safe_name(name) for name in names]
    assert len(set(found)) == len(names)
    for name in found:
        assert name not in ("", ".", "..") and "/" not in name and "\\" not in name and len(name) < 120
        (tmp_path / name).mkdir()  # a name that the system takes
