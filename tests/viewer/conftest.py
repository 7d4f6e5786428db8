"""A run whose answers are known in closed form, as a page shows it."""

import numpy as np
import pytest

import view
from tests.helpers import analytic_run
from tests.helpers.analytic_run import CENTRE, NUM_FRAMES, SCALE, move


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def run(folder):
    """The run of analytic_run, which every command opens, whatever --run names."""
    with pytest.MonkeyPatch.context() as patch:
        yield analytic_run.install(patch, folder / "data")[0]


@pytest.fixture(scope="module")
def scene(run, folder):
    return view.open_scene(view.parse_arguments(["--run", "somewhere", "--pins", str(folder / "pins.csv")]))


def known_track(t, x, y):
    """Places (N, 2) of a query in pixels of the video, and whether it is hidden in each frame, in closed form."""
    pixel = np.array([x, y]) / SCALE - 0.5
    pixels = np.array([move(pixel, t, frame) for frame in range(NUM_FRAMES)])
    hidden = pixels[:, 0] < CENTRE[0]
    hidden[t] = False
    return (pixels + 0.5) * SCALE, hidden
