"""End-point errors on public image pairs, which are no part of the project (set OMNIMOTION_SHARED)."""

import pytest

from benchmarks.flow_epe import PAIRS, end_point_error, read_pair
from flow.dis import PlainDis
from flow.raft import RaftFlow
from flow.raft_weights import load_raft
from tests.helpers.paths import SHARED
from tests.helpers.random_raft import SINTEL

FOLDER = SHARED / "data" / "flow"
EXPECTED = {  # pixels, measured beside the data with: the reference code of RAFT-small, 20 iterations; DIS of OpenCV
    "middlebury_RubberWhale": (0.2878, 0.4402), "middlebury_Urban3": (0.6382, 1.7611),
    "middlebury_Venus": (0.3846, 0.5638), "kitti_example": (3.0688, 42.6285),
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no image pairs in {FOLDER}")
@pytest.mark.parametrize("name", PAIRS)
def test_end_point_errors_of_dis(name):
    error = end_point_error(PlainDis("fast", finest_scale=None), *read_pair(FOLDER / name))
    assert error == pytest.approx(EXPECTED[name][1], rel=0.01)


@pytest.mark.skipif(not (FOLDER.is_dir() and SINTEL.exists()), reason=f"no image pairs in {FOLDER} or no {SINTEL.name}")
@pytest.mark.parametrize("name", PAIRS)
def test_end_point_errors_of_raft(name):
    model, digest = load_raft(SINTEL)
    error = end_point_error(RaftFlow(model, SINTEL.name, digest, half=False), *read_pair(FOLDER / name))
    assert error == pytest.approx(EXPECTED[name][0], rel=0.01)
