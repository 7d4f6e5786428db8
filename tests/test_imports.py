"""Who may import whom (see README, 'The code'): the arrows point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
MAY_IMPORT = {  # of ours, besides itself; the commands may import everything
    "util": set(), "losses": set(), "configs": {"util"},
    "networks": {"util"}, "loaders": {"util"},
    "flow": {"networks", "util"},
    "preprocess": {"flow", "loaders", "util"},
    "checkpoints": {"configs", "loaders", "networks", "util"},
    "training": {"checkpoints", "loaders", "losses", "networks", "util"},
    "tracking": {"loaders", "networks", "util"},
    "outputs": {"checkpoints", "flow", "loaders", "networks", "tracking", "util"},
    "evaluation": {"checkpoints", "loaders", "networks", "tracking", "util"},
}
COMMANDS = {"train", "track", "viz", "evaluate", "benchmarks", "tests"}


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
        wrong = {module for module in imported(path) if module in OURS} - MAY_IMPORT[name] - {name}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


def test_networks_see_no_files_and_losses_no_model():
    for path in (ROOT / "networks").glob("*.py"):
        assert not {"pathlib", "os", "imageio", "cv2"} & set(imported(path)), path.name
    assert "networks" not in set(imported(ROOT / "losses.py"))


def test_no_package_is_left_out():
    assert OURS | {"tests"} == MAY_IMPORT.keys() | COMMANDS
