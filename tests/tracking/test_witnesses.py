"""How far tracks are from what others know, by points whose motion is a closed form."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from loaders.data_dir import DataDir
from loaders.evidence import evidence_of, of_tracks, write_evidence
from tracking import refinement, witnesses
from tracking.witnesses import SETTINGS, distances_from

SIZE, N = (60, 100), 3
TURN, SHIFT = np.array([[0.03, -0.02], [0.02, 0.03]]), np.array([4.0, -1.5])


def moved(points, frames):
    """Points (..., 2) of frame 0, `frames` frames later."""
    return points + frames * (points @ TURN.T + SHIFT)


def lattice():
    """Points 6 px apart in the left half of frame 0."""
    x, y = np.meshgrid(np.arange(3, 50, 6.0), np.arange(3, 60, 6.0))
    return np.stack([x, y], axis=-1).reshape(-1, 2)


@pytest.fixture
def known():
    positions = np.stack([moved(lattice(), t) for t in range(N)], axis=1)
    return of_tracks("known", positions, np.ones(positions.shape[:2], bool), {(0, 1), (0, 2), (1, 2)})


def test_a_query_goes_as_the_points_around_it_whichever_way_in_time(known):
    start = np.random.default_rng(0).uniform([8, 8], [40, 50], (20, 2))
    truth = np.stack([moved(start, t) for t in range(N)], axis=1)
    off = np.array([[0, 0], [3, 4], [0, 1]])
    for frame in (0, 2):
        frames = np.full(20, frame)
        right, wrong = distances_from([known], frames, truth[:, frame], [truth, truth + off], SIZE)
        others = [t for t in range(N) if t != frame]
        assert np.isnan(right[:, frame]).all() and np.isnan(wrong[:, frame]).all()
        assert right[:, others].max() < 0.05  # of 10 px: stiffness takes a little of the turning
        np.testing.assert_allclose(wrong[:, others], np.tile(np.hypot(*off.T)[others], (20, 1)), atol=0.05)


def test_nothing_is_said_out_of_reach_and_of_pairs_that_nobody_knows(known):
    reach = SETTINGS.reach * max(SIZE)
    pixels = np.array([[45 + reach - 0.5, 33], [45 + reach + 0.5, 33]])  # the lattice ends at 45
    still = np.repeat(pixels[:, None], N, axis=1)
    (found,) = distances_from([known], np.zeros(2, int), pixels, [still], SIZE)
    assert np.isfinite(found[0, 1:]).all() and np.isnan(found[1]).all()
    of_one_pair = evidence_of("one", known.frames[:80], known.points[:80], known.weight[:80])
    (found,) = distances_from([of_one_pair], np.zeros(2, int), pixels, [still], SIZE)
    assert np.isfinite(found[0, 1]) and np.isnan(found[0, 2])


def test_points_that_no_other_agrees_with_say_nothing(known):
    """A second source puts a few points, each on its own, far from where they go."""
    start = np.array([[10.0, 12], [24, 30], [38, 50]])
    wrong = evidence_of("wrong", np.tile([0, 1], (3, 1)), np.stack([start, start + [20, 15]], 1), np.ones(3))
    track = np.stack([start, moved(start, 1), moved(start, 2)], axis=1)
    (found,) = distances_from([known, wrong], np.zeros(3, int), start, [track], SIZE)
    assert found[:, 1:].max() < 0.1


def test_tracks_stored_beside_the_flow_judge_a_model_and_matches_do_not(truth_scene, truth_data, tmp_path):
    """The flow is right, the model 3 px off; tracks that say as the model does bring both nearer to it."""
    shutil.copytree(truth_data, tmp_path / "data")
    data, frames, random = DataDir.open(tmp_path / "data"), np.full(30, 2), np.random.default_rng(1)
    pixels, off = random.uniform([4, 4], [51, 35], (30, 2)).astype(np.float32), np.zeros((7, 2), np.float32)
    off[[0, 1, 3, 4, 5, 6], 0] = 3
    truth, visible = truth_scene.tracks(2, pixels)
    tracks, scores = (truth + off).astype(np.float32), np.zeros((30, 7), np.float32)
    positions, seen = truth_scene.tracks(2, random.uniform(0, [55, 39], (150, 2)))
    known = of_tracks("known", positions + off, seen, {(min(2, j), max(2, j)) for j in range(7) if j != 2})
    away = []
    for evidence in (None, replace(known, followed=False), known):
        if evidence is not None:
            write_evidence(data.path, evidence)
        found = refinement.refine(data, frames, pixels, tracks, scores)[0]
        away.append(np.linalg.norm(found - tracks, axis=-1)[visible].mean())
    assert away[0] == away[1] and away[2] < 0.8 * away[0]


@pytest.fixture
def company():
    """16 points 6 px apart that go 5 px right a frame, but two go down, and one leaves; a query among them, with which
    flow goes for three frames, is 12 px off in the fourth and arrives nowhere in the last."""
    x, y = np.meshgrid(np.arange(20, 44, 6.0), np.arange(20, 44, 6.0))
    start, times = np.stack([x, y], -1).reshape(-1, 2), np.arange(6)
    tracks = start[:, None] + times[:, None] * [5.0, 0.0]
    tracks[[3, 12]] = start[[3, 12], None] + times[:, None] * [0.0, 4.0]
    tracks[5, 3:] = tracks[10, 3:] + [20, 9]  # from here on
    tracks[6, 0] += [0.8, -0.6]  # where it starts, too, a point is known no better than elsewhere
    pixels = np.array([[30.0, 30]])
    places = pixels[:, None] + times[:, None] * [5.0, 0.0]
    places[0, 4] += [0, 12]
    share = np.float32([[1, 1, 1, 0.8, 0.5, 0]])
    one = replace(of_tracks("one", tracks, np.ones(tracks.shape[:2], bool), {(0, 1)}))
    return one, pixels, places, share


def test_companions_say_where_a_query_is_when_flow_leaves_them(company):
    one, pixels, places, share = company
    led = witnesses.companions([one], np.zeros(1, int), pixels, places, share, 100)
    found, error = led.places, led.error
    np.testing.assert_allclose(found[0, 1:], pixels + np.arange(1, 6)[:, None] * [5, 0], atol=0.15)
    assert np.isinf(error[0, 0]) and (error[0, 1:] < 0.5).all()
    flow_error = np.float32([[0, 0.5, 0.5, 0.7, 1, np.inf]])
    elsewhere = witnesses.contradicted(places, flow_error, led)
    assert elsewhere.tolist() == [[False, False, False, False, True, True]]
    walk = refinement.Walk(places, flow_error, share)
    model = np.repeat(pixels[:, None], 6, axis=1).astype(np.float32)
    merged, _ = refinement.merge(walk, model, led=led)
    np.testing.assert_allclose(merged[0, 4:], found[0, 4:], atol=1e-5)
    alone, _ = refinement.merge(walk, model)
    assert np.array_equal(merged[:, :4], alone[:, :4])


def test_who_is_alone_hidden_far_or_goes_elsewhere_is_no_companion(company):
    one, pixels, places, share = company
    only = replace(one, tracks=one.tracks[5:6], visible=one.visible[5:6])
    hidden = replace(one, visible=np.tile(np.arange(6) != 4, (16, 1)))
    unseen = replace(one, visible=np.tile(np.arange(6) > 0, (16, 1)))
    others = replace(one, tracks=one.tracks + np.arange(6)[:, None] * [-5.0, 4.0])  # all of them go down
    frames = np.zeros(1, int)
    sure = np.ones_like(share)
    for several, known in (([only], []), ([hidden], [1, 2, 3, 5]), ([unseen], []), ([], []), ([others], []),
                           ([replace(one, tracks=None, visible=None)], [])):
        found, error, _ = witnesses.companions(several, frames, pixels, places, sure, 100)
        assert np.flatnonzero(np.isfinite(error[0])).tolist() == known
        assert np.isfinite(found).all()
    far = witnesses.companions([one], frames, pixels + [0, 60], places + [0, 60], share, 100)
    assert np.isinf(far.error).all()


def test_more_has_to_be_said_for_companions_than_for_flow(company):
    """Few and far ones, which lead elsewhere in frame 4, against flow of which all agrees, and of which little does."""
    one, pixels, places, _ = company
    few = replace(one, tracks=one.tracks[[4, 13, 14, 15]] + [[[0, 0]] * 4 + [[0, 9], [0, 0]]], visible=one.visible[:4])
    for share, told in ((1.0, False), (0.05, True)):
        said = np.float32([[1, 1, 1, 1, share, 1]])
        led = witnesses.companions([few], np.zeros(1, int), pixels, places, said, 100)
        assert np.isfinite(led.error[0, 4]) == told


def test_a_place_that_is_not_known_of_a_hidden_point_says_nothing(company):
    one, pixels, places, share = company
    visible, tracks = one.visible.copy(), one.tracks.copy()
    visible[::2, 2] = False
    expected = witnesses.companions([replace(one, visible=visible)], np.zeros(1, int), pixels, places, share, 100)
    tracks[~visible] = np.nan
    unknown = replace(one, tracks=tracks, visible=visible)
    found = witnesses.companions([unknown], np.zeros(1, int), pixels, places, share, 100)
    for part, same in zip(found, expected):
        np.testing.assert_array_equal(part, same)


def test_distances_are_from_companions_where_there_are_any(company, known):
    one, pixels, places, share = company
    led = witnesses.companions([one], np.zeros(1, int), pixels, places, share, 100)
    (alone,), (found,) = (distances_from([known], np.zeros(1, int), pixels, [places[:, :3]], SIZE, said)
                          for said in (None, witnesses.Companions(*(part[:, :3] for part in led))))
    np.testing.assert_allclose(found[0, 1:], 0, atol=0.15)
    assert (np.abs(alone[0, 1:] - found[0, 1:]) > 0.3).all()


def test_companions_vote_on_visibility_each_by_how_near_it_is_and_how_often_it_went_along(company):
    """By a point 3 px off the query that went along in the three other frames in which it is seen."""
    one, pixels, places, share = company
    still = places.copy()
    still[0, 4] -= [0, 12]
    tracks, visible = still + [[[3, 0]]], np.array([[True, True, False, True, False, True]])
    single = replace(one, tracks=tracks, visible=visible)
    seen_in = np.ones(6)
    weight = 3.5 / 4 / (1 + (3 / (SETTINGS.spread * 100)) ** 2)
    odds = witnesses.companions([single], np.zeros(1, int), pixels, still, seen_in[None], 100).odds
    np.testing.assert_allclose(odds, weight * np.where(visible, 1, -1), rtol=1e-6)
    twice = witnesses.companions([single, single], np.zeros(1, int), pixels, still, seen_in[None], 100).odds
    np.testing.assert_allclose(twice, 2 * odds)


def test_who_is_not_seen_at_the_start_never_hidden_or_out_of_reach_has_no_vote(company):
    one, pixels, places, share = company
    hidden = replace(one, visible=np.tile(np.arange(6) % 2 == 1, (16, 1)))
    for known in (one, hidden, replace(one, tracks=None, visible=None)):
        assert (witnesses.companions([known], np.zeros(1, int), pixels, places, share, 100).odds == 0).all()
    seen = replace(one, visible=np.tile(np.arange(6) != 3, (16, 1)))
    for where, voted in (([0, 0], True), ([0, 60], False)):
        odds = witnesses.companions([seen], np.zeros(1, int), pixels + where, places + where, share, 100).odds[0]
        assert odds.any() == voted and (not voted or (odds[3] < -1 and (odds[[1, 2, 4, 5]] > 1).all()))


def test_refined_scores_follow_what_tracks_say_of_visibility(truth_scene, truth_data, tmp_path):
    """Also in a frame in which no flow arrives; points that say they are hidden make the same points hidden."""
    shutil.copytree(truth_data, tmp_path / "data")
    data, frames, random = DataDir.open(tmp_path / "data"), np.full(30, 2), np.random.default_rng(1)
    pixels = random.uniform([4, 4], [51, 35], (30, 2)).astype(np.float32)
    truth, _ = truth_scene.tracks(2, pixels)
    positions, _ = truth_scene.tracks(2, random.uniform(0, [55, 39], (300, 2)))
    scores = {}
    for said in (True, False):
        visible = np.full(positions.shape[:2], said)
        visible[:, 2], visible[:3] = True, False
        write_evidence(data.path, of_tracks("known", positions, visible, {(0, 2)}))
        scores[said] = refinement.refine(data, frames, pixels, truth.astype(np.float32), np.zeros((30, 7)))[1]
    others = np.arange(7) != 2
    assert (scores[False] >= scores[True])[:, others].all()
    changed = (scores[False] > scores[True] + 0.01)[:, others].any(axis=1)
    assert changed.mean() > 0.8
    nowhere = refinement.Walk(truth, np.full(truth.shape[:2], np.inf, np.float32), np.zeros(truth.shape[:2]))
    assert np.isfinite(refinement.flow_odds(nowhere)).all()
