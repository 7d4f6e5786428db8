"""Whoever answers queries: flow alone, a model, and a model joined with flow."""

from types import SimpleNamespace

import numpy as np

from tracking import sources
from tracking.sources import FlowSource


def test_dense_flow_alone_is_that_of_each_pixel(monkeypatch):
    """Tracks that say where they started and which frame they are asked for; in pieces of 7 pixels."""

    def flow_tracks(data, frames, pixels, progress=None, window=None):
        assert (frames == 2).all() and list(window) == [1, 2]
        x, y, t = pixels[:, :1], pixels[:, 1:], np.array([window])
        return np.stack([x + 10 * x + y + 100 * t, y - x + t], -1), x + 10 * y + 100 * t

    monkeypatch.setattr("tracking.refinement.flow_tracks", flow_tracks)
    monkeypatch.setattr(sources, "DENSE_CHUNK", 7)
    data = SimpleNamespace(num_frames=3, height=4, width=6, fps=1, original_height=4, original_width=6, path="d")
    flow, score = FlowSource(data).flow(2, 1)
    for y, x in np.ndindex(4, 6):
        assert flow[y, x].tolist() == [10 * x + y + 100, 1 - x] and score[y, x] == x + 10 * y + 100
    assert flow.shape == (4, 6, 2) and score.shape == (4, 6)
