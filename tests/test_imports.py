"""The code's structure: who may import whom (see README, 'The code'), and how long files and functions may be."""

import ast
import re

import pytest

from tests.helpers.paths import ROOT

OURS = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
MAY_IMPORT = {  # of ours, besides itself and files; the commands may import everything
    "files": set(), "util": set(), "losses": set(), "configs": {"util"},
    "networks": {"util"}, "loaders": {"util"},
    "flow": {"networks", "util"},
    "preprocess": {"flow", "loaders", "tracking", "util"},
    "checkpoints": {"configs", "loaders", "networks", "util"},
    "training": {"checkpoints", "loaders", "losses", "networks", "util"},
    "tracking": {"flow", "loaders", "networks", "util"},  # of flow: how points that others know carry what is around
    "exports": {"loaders", "tracking", "util"},
    "pipeline": {"loaders", "preprocess", "util"},
    "outputs": {"checkpoints", "flow", "loaders", "networks", "tracking", "util"},
    "viewer": {"exports", "flow", "loaders", "networks", "outputs", "preprocess", "tracking", "util"},
    "edits": {"flow", "loaders", "preprocess", "tracking", "util"},
    "evaluation": {"checkpoints", "loaders", "networks", "tracking", "util"},
}
COMMANDS = {"train", "track", "viz", "view", "edit", "evaluate", "export", "run", "benchmarks", "tests"}
MOST_LINES, MOST_LINES_OF_A_TEST, MOST_LINES_OF_A_FUNCTION = 400, 500, 60  # of a function: its body, no docstring
LONGER = {  # files that may be, and why
    "benchmarks/scenes.py": "generates scenes: a list of what they show",
    "benchmarks/scenes3d.py": "generates scenes: a list of what they show",
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_import_direction(name):
    files = [ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else sorted((ROOT / name).rglob("*.py"))
    assert files
    for path in files:
        wrong = {module for module in imported(path) if module in OURS} - MAY_IMPORT[name] - {name, "files"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


def test_networks_see_no_files_and_losses_no_model():
    for path in (ROOT / "networks").glob("*.py"):
        assert not {"pathlib", "os", "imageio", "cv2"} & set(imported(path)), path.name
    assert "networks" not in set(imported(ROOT / "losses.py"))


def test_no_package_is_left_out():
    assert OURS | {"tests"} == MAY_IMPORT.keys() | COMMANDS


def our_files():
    for name in sorted(OURS):
        yield from [ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else sorted((ROOT / name).rglob("*.py"))


def test_files_are_short():
    too_long = set()
    for path in our_files():
        name = path.relative_to(ROOT).as_posix()
        most = MOST_LINES_OF_A_TEST if name.startswith("tests/") else MOST_LINES
        if len(path.read_text(encoding="utf-8").splitlines()) > most:
            too_long.add(name)
    assert too_long == LONGER.keys()  # an exception that is none any more is to go, too


def test_functions_are_short():
    for path in our_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[ast.get_docstring(node) is not None :]
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= MOST_LINES_OF_A_FUNCTION, f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"


READS = re.compile(r"(?<![\w.])(?<!def )open\((?!.*\"wb?\")|\.read_(text|bytes)\(|imread\(|Image\.open\(|"
                   r"\b(np|json|torch|torch\.jit)\.(fromfile|memmap|loadtxt|genfromtxt|load)\(")
READERS = {  # besides files.py, and what they read, after a look at it through that door
    "checkpoints.py": "weights, without pickles", "flow/raft_weights.py": "weights, without pickles",
    "flow/dino.py": "weights", "evaluation/tapvid.py": "pickles, by an allow-list",
    "loaders/sealed.py": "arrays, by parts", "preprocess/frames.py": "images that OpenCV cannot read, and hashes",
    "preprocess/labels.py": "palettes", "preprocess/tracker_models.py": "weights",
    "preprocess/trackers.py": "its own temporary file", "util.py": "hashes",
    "tracking/polish.py": "its own temporary file", "pipeline/tasks.py": "its own log",
    "pipeline/status.py": "its own, of which a damaged one is written again", "viewer/page.py": "its own pages",
    "viewer/formats.py": "its own temporary folder", "loaders/pins.py": "a hash",
}


def test_users_files_are_read_through_one_door():
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in our_files()}
    found = {name for name, source in sources.items() if READS.search(source)}
    others = {name for name in found if name.split("/")[0] not in ("tests", "benchmarks", "files.py")}
    assert others == READERS.keys()
