"""Who answers a page's queries: a run or flow, asked while the page is open, or the tracks of a file.

Queries are written as track.py takes them (see tracking.queries); positions are pixels of the original video.
"""

import re
import threading

import numpy as np

from tracking.queries import parse_queries
from tracking.refinement import flow_at_hand
from tracking.sources import track_queries
from tracking.tracks_file import select
from util import BoundedCache, UserError

MOST_POINTS = 20_000  # of one query: more would keep the page waiting
TRACK = re.compile(r"track:([0-9]{1,9})")
ASKING = threading.Lock()  # the model is asked one thing after the other


class AnswersOfSource:
    """Tracks of any pixel, by a source (see tracking.sources); the newest answers are kept.

    command: how track.py is called to give the same, up to its --queries; None: it is not said.
    """

    live = True

    def __init__(self, name, source, command=None):
        self.name, self.source, self.command = name, source, command
        self.num_frames, self.video_size, self.has_depth = source.num_frames, source.video_size, source.run is not None
        self.cache = BoundedCache(self.ask, most=2**28, size=lambda tracks: 5 * tracks.tracks.nbytes)
        if source.run is not None and flow_at_hand(source.run, source.refine) is None:
            source.refine = "off"  # it was said why, once

    def tracks(self, text):
        """The Tracks of queries as text. UserError for what cannot be answered."""
        with ASKING:
            return self.cache[text]

    def ask(self, text):
        if text.lower().endswith(".npz"):
            raise UserError("a page asks for points and grids only, no files")
        queries = parse_queries(text, self.num_frames, self.video_size)
        if len(queries) > MOST_POINTS:
            raise UserError(f"{text}: {len(queries)} points; expected at most {MOST_POINTS}: take a larger spacing")
        return track_queries(self.source, queries)

    def known(self, track):
        """Whether a track number may be pinned: any, as each brings its query along."""
        return track >= 0


class AnswersOfFile:
    """The tracks of a file; the page takes the one nearest to a click."""

    live, command = False, None

    def __init__(self, name, tracks):
        self.name, self.all = name, tracks
        self.num_frames, self.video_size = tracks.tracks.shape[1], tuple(tracks.video_size)
        self.has_depth = bool(np.isfinite(tracks.depth).any())

    def tracks(self, text):
        """The Tracks of a text: 'all', or 'track:3;track:17' by their numbers. UserError for anything else."""
        if text == "all":
            return self.all
        rows = [int(found[1]) for found in map(TRACK.fullmatch, text.split(";")) if found]
        if len(rows) != len(text.split(";")) or not all(map(self.known, rows)):
            most = len(self.all.tracks) - 1
            raise UserError(f'{text}: of {self.name} expected "all", or "track:K;track:K" with K from 0 to {most}')
        return select(self.all, rows)

    def known(self, track):
        return 0 <= track < len(self.all.tracks)
