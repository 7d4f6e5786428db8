"""What tracks of a tracker add to the flow: python -m benchmarks.evidence [--kinds 3d-walker ...] [--seeds 2]

Trackers are simulated: the truth of a scene, made worse. Tracks of `flow` (no model) are scored with and without them.
"""

import numpy as np

AT = 256  # pixels of the longer side, in which noise is given


def simulated_tracks(scene, count=256, noise=1.5, outliers=0.1, wrong=0.15, seed=777):
    """What a tracker might say of a scene -> positions (Q, N, 2) in raster pixels, visible (Q, N), queries (Q, 3).

    Queries are t, y, x. noise: standard deviation, pixels at AT. outliers: this share of positions is grossly wrong,
    half of them anywhere in the frame, half because a whole track follows another point's motion. wrong: share of
    visibility that is flipped. Where a track is queried it is right.
    """
    truth, random = scene.ground_truth(count, seed=seed), np.random.default_rng(seed)
    queries, positions = truth["query_points"], truth["target_points"].astype(float)
    rows, frames = np.arange(count), queries[:, 0].astype(int)
    height, width = truth["video_size"]
    moved = positions - positions[rows, frames][:, None]
    led_astray = random.random(count) < outliers / 2
    positions[led_astray] += (moved[random.permutation(count)] - moved)[led_astray]
    positions += random.normal(0, noise * max(height, width) / AT, positions.shape)
    anywhere = random.random(positions.shape[:2]) < outliers / 2
    positions[anywhere] = (random.random(positions.shape) * [width, height])[anywhere]
    visible = ~truth["occluded"] ^ (random.random(positions.shape[:2]) < wrong)
    positions[rows, frames], visible[rows, frames] = queries[:, [2, 1]], True
    return positions, visible, queries
