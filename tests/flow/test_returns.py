"""Which adjacent flow returns to its start, there and back."""

import numpy as np

from flow.dis import DisFlow


def test_flow_is_reliable_where_the_way_back_is_that_of_the_place_it_leads_to():
    """All moves 3 px to the right, and all but columns 6 to 8 of the other frame 3 px back; the lower rows drift."""
    estimator = DisFlow()
    estimator.size = (5, 12)
    there, back = np.zeros((2, 5, 12, 2), np.float32)
    there[..., 0], back[..., 0] = 3, -3
    back[:, 6:9, 0] = -5
    there[:, :, 1] = np.array([0, 0.5, 0, 0, 0])[:, None]
    back[:, :, 1] = np.array([0.25, 0.25, 0.9, 1.1, -4])[:, None]
    estimator.found = {4: np.stack([there, back])}
    found = estimator.returns(4, 5)
    expected = np.ones((5, 12))
    expected[:, 3:6] = 0  # leads to columns 6 to 8
    expected[3:] = 0  # 1.1 and 4 px beside the start
    expected[1] = 0  # leads between rows 1 and 2, and back to 0.5 + (0.25 + 0.9) / 2 px beside the start
    assert np.array_equal(found, expected) and found.dtype == np.float32
    estimator.found[4][:] = (3, 0)  # there and on: 6 px apart
    assert not estimator.returns(4, 5).any()
