"""Which pairs of frames get flow, and the disk that they take."""

import pytest

from preprocess.pairs import choose_pairs, describe_rule


def test_short_clips_take_all_pairs_and_longer_ones_a_number_that_grows_linearly():
    assert choose_pairs(32) == [[j for j in range(32) if j != i] for i in range(32)]
    assert choose_pairs(40, 39) == [[j for j in range(40) if j != i] for i in range(40)]
    totals = {count: sum(map(len, choose_pairs(count))) for count in (200, 400, 800)}
    assert totals[800] - totals[400] == pytest.approx(2 * (totals[400] - totals[200]), rel=0.01)
    assert totals[800] / 800 < 30


def test_the_default_rule_spaces_distances_out():
    partners = choose_pairs(200)
    assert partners[0] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    assert partners[99] == [3, 35, 51, 67, 75, 83, 87, 91, 93, 95, 96, 97, 98,
                            100, 101, 102, 103, 105, 107, 111, 115, 123, 131, 147, 163, 195]
    assert all(i in partners[j] for i in range(200) for j in partners[i])  # both directions, as the filter needs
    assert choose_pairs(200, 7)[0] == [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96]
    assert choose_pairs(200, 1)[0] == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert choose_pairs(3) == [[1, 2], [0, 2], [0, 1]] and choose_pairs(2, 1) == [[1], [0]]
    assert describe_rule(200) == "up to 4 frames apart, spaced ones up to 96"
    assert describe_rule(200, 1) == "up to 1 frames apart, spaced ones up to 24"
    assert describe_rule(32) == describe_rule(9, 8) == "all pairs"


def test_flow_is_stored_between_partners_that_follow_each_other():
    """Which chains go along."""
    for max_interval in (None, *range(1, 60)):
        partners = choose_pairs(120, max_interval)
        for i, of_frame in enumerate(partners):
            assert all(b in partners[a] for a, b in zip(of_frame, of_frame[1:]) if i not in (a, b)), max_interval


@pytest.mark.parametrize(("max_interval", "limit"), [(None, 3.0e9), (59, 6.3e9)])
def test_disk_of_60_frames_at_480p(max_interval, limit):
    pairs, pixels = sum(map(len, choose_pairs(60, max_interval))), 480 * 854
    flow, masks = pairs * pixels * 2 * 2, pairs * 2 * -(-pixels // 8)
    counts, color = 60 * pixels * 2, 60 * pixels * 3  # color: as if PNG did not compress
    assert flow + masks + counts + color < limit
