"""The tracks file: what is written is read, and what is none of ours is named."""

import numpy as np

from tracking.tracks_file import Tracks, read_tracks, write_tracks


def test_tracks_survive_the_file(tmp_path):
    random = np.random.default_rng(0)
    tracks = Tracks(random.random((6, 3)), random.random((6, 4, 2)), random.random((6, 4)) > 0.5,
                    random.random((6, 4)), random.random((6, 4)), (3, 5), (30, 50), 29.97)
    write_tracks(tmp_path / "t.npz", tracks)
    back = read_tracks(tmp_path / "t.npz")
    for name in Tracks.__dataclass_fields__:
        assert np.allclose(getattr(back, name), getattr(tracks, name)), name
