"""The share of planted bugs that the tests catch, module by module: python -m benchmarks.mutants, after `mutmut run`.

mutmut plants one small bug at a time (a mutant: another operator, another number, an argument left out) and runs the
tests that reach it. A mutant is caught when a test fails, crashes or never ends; one that no test reaches is missed.
"""

import argparse
import json
from pathlib import Path

MISSED = {0, 5, 33}  # mutmut's records: all tests passed, no test, no test
OUT_OF_TIME = {24, -24, 36, 152, 255}


def count(exit_codes):
    """Records of mutants (None: not run) -> numbers of those run, caught, and, of these, out of time."""
    ran = [code for code in exit_codes if code is not None]
    return len(ran), sum(code not in MISSED for code in ran), sum(code in OUT_OF_TIME for code in ran)


def table(folder):
    """A Markdown table of all modules that mutmut knows in its folder."""
    rows = ["| module | mutants | run | caught | share | of these out of time |", "|---|---:|---:|---:|---:|---:|"]
    totals = [0, 0, 0, 0]
    for path in sorted(folder.rglob("*.py.meta")):
        codes = list(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values())
        if codes:
            numbers = [len(codes), *count(codes)]
            totals = [a + b for a, b in zip(totals, numbers)]
            rows.append(row(path.relative_to(folder).as_posix().removesuffix(".meta"), numbers))
    return "\n".join([*rows, row("all", totals)])


def row(name, numbers):
    mutants, ran, caught, late = numbers
    share = f"{caught / ran:.1%}" if ran else "not run"
    return f"| {name} | {mutants} | {ran} | {caught} | {share} | {late} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("mutants"), help="where mutmut works [mutants]")
    print(table(parser.parse_args(arguments).folder))


if __name__ == "__main__":
    main()
