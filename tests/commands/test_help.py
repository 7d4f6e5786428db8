"""Every command explains itself."""

import importlib

import pytest

COMMANDS = ("train", "track", "viz", "view", "edit", "evaluate", "export", "run", "preprocess.__main__",
            "preprocess.trackers", "flow.__main__", "benchmarks.quality", "benchmarks.ablations", "benchmarks.scenes",
            "benchmarks.demo", "benchmarks.step", "benchmarks.step_profile", "benchmarks.mutants",
            "benchmarks.polish", "benchmarks.pins", "benchmarks.layers")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed(name, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_defaults_are_shown_as_they_are_typed(capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("train").main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "larger they are [1.0]" in text  # a float that equals True
    assert "(0.04 is usual) [0.0]" in text  # a float that equals False
    assert "the nearest 20 % of a ray's samples" in text
    assert "[true]" in text and "[false]" in text
