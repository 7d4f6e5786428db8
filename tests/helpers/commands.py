"""Commands as functions, and the one line that a user's mistake ends in."""

import pytest


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
