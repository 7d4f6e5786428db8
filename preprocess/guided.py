"""Flow estimated a second time, from a guess that knows more than two frames: that of a model fitted to the first flow.

A model has seen every pair of the video, so its flow is right to a pixel or two also where an estimator, which sees two
frames, is lost: after fast motion, over long times, behind what hides an object. Dense inverse search from there finds
the last pixel, and is kept where it explains the frames better than the flow that was there.
"""

import numpy as np

from preprocess.dis import DisFlow


class GuidedFlow:
    """Flow estimator (see preprocess.flow). guess(i, partners) -> (P, H, W, 2); stored: the DataDir to improve on."""

    reason = "started from a model"

    def __init__(self, guess, stored, name):
        """name: what the guess is, for .description."""
        self.guess, self.stored, self.dis = guess, stored, DisFlow()
        self.description = {"method": "guided", "guess": name, "by": self.dis.description,
                            "first": stored.manifest["settings"]["flow"]}

    def load_frames(self, frames):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3)."""
        self.dis.load_frames(frames)

    def flow_from(self, i, partners):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2)."""
        guesses = self.guess(i, partners)
        return np.stack([self.better_of(i, j, guess) for j, guess in zip(partners, guesses, strict=True)])

    def better_of(self, i, j, guess):
        """Of the guess (H, W, 2), what DIS makes of it, and the stored flow the best at each pixel."""
        return self.dis.correct(i, j, guess, [self.stored.flow(i, j)])
