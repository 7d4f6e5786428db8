"""What the tests of faults share."""

import pytest

from tests.faults import workshop


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    """A folder with one sound file of every kind; tests work on copies."""
    folder = tmp_path_factory.mktemp("workshop")
    workshop.build(folder)
    return folder
