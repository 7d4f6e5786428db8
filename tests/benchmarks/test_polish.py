"""The benchmark of polishing, at a size that says nothing."""

import sys

import numpy as np

from benchmarks import polish
from tracking.polish import SETTINGS


def test_a_page_with_and_without(tmp_path, monkeypatch, capsys):
    arguments = ["--scenes", "occlusion", "--seeds", "0", "--num_frames", "3", "--height", "64", "--width", "96",
                 "--max_side", "48", "--num_points", "20", "--sensitivity", "--work", str(tmp_path),
                 "--out", str(tmp_path / "p.md")]
    monkeypatch.setattr(sys, "argv", ["polish", *arguments])
    polish.main(arguments)
    rows = [line for line in (tmp_path / "p.md").read_text().splitlines() if line.startswith("| occlusion-0")]
    assert [row.split("|")[2].strip() for row in rows] == ["flow", "flow, polished"]
    varied = [line for line in (tmp_path / "p.md").read_text().splitlines() if line.startswith("| `")]
    assert len(varied) == 2 * len(vars(SETTINGS)) and varied[0].startswith("| `doubt` doubled")
    assert rows[0].split("|")[8].strip() == "0.0%" and "python -m benchmarks.polish --scenes occlusion" in (
        capsys.readouterr().out)


def test_figures_by_hand():
    truth = {"occluded": np.array([[False, False, False, True]]), "query_points": np.array([[0, 0, 0]]),
             "target_points": np.zeros((1, 4, 2))}
    before = np.array([[[9, 9], [0, 3], [0.4, 0], [50, 50]]], float)
    after = before.copy()
    after[0, 1] = 0, 1
    seen = np.array([[True, True, False, True]])
    assert polish.figures(after, before, seen, truth, 2.4) == ["0.70", "1.00", "0.70", "50.0%", "100.0%", "50.0%", "2"]
