"""The share of planted bugs that were caught, counted from mutmut's records."""

import json

from benchmarks import mutants


def test_shares_of_modules_by_hand(tmp_path):
    (tmp_path / "training").mkdir()
    records = {"losses": [1, 0, 33, 1, 36, None], "training/surface": [None, None], "util": []}
    for name, codes in records.items():
        content = {"exit_code_by_key": {f"{name}.{k}": code for k, code in enumerate(codes)}}
        (tmp_path / f"{name}.py.meta").write_text(json.dumps(content))
    assert mutants.table(tmp_path).splitlines()[2:] == [
        "| losses.py | 6 | 5 | 3 | 60.0% | 1 |", "| training/surface.py | 2 | 0 | 0 | not run | 0 |",
        "| all | 8 | 5 | 3 | 60.0% | 1 |"]
