"""Damaged files: refused in one line, or the result is that of sound ones. (All jobs, all damage: make faults.)"""

import hashlib

import pytest

from tests.faults import workshop
from tests.faults.damage import DAMAGE

EVERY = 8  # one in so many pairs of a job and a damage is in the fast part


@pytest.fixture(scope="module")
def expected(made, tmp_path_factory):
    return workshop.sound(made, tmp_path_factory.mktemp("sound"))


def chosen(job, name):
    """A choice that does not depend on what else there is."""
    return hashlib.sha256(f"{job.name} {name}".encode()).digest()[0] % EVERY == 0


@pytest.mark.parametrize("job, name", [pytest.param(job, name, id=f"{job.name}, {name}")
                                       for job in workshop.JOBS for name in DAMAGE if chosen(job, name)])
def test_damage_is_refused_or_does_no_harm(made, expected, tmp_path, job, name):
    folder = workshop.copy_of(made, tmp_path / "here")
    DAMAGE[name](folder / job.file)
    found, why = workshop.outcome(job, folder, expected[job.name], name)
    assert found in (workshop.REFUSED, workshop.SAME), (found, why)
