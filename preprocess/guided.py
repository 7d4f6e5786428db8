"""Flow estimated a second time, with hints that know more than two frames: those of a model fitted to the first flow.

A model has seen every pair of the video, so its flow is right to a pixel or two also where an estimator, which sees two
frames, is lost: after fast motion, over long times, behind what hides an object. Walked DIS takes it, and the flow that
was there, as hints wherever they explain the frames better than what it finds itself.
"""

from preprocess.dis import DisFlow
from preprocess.features import BoundedCache


class GuidedFlow:
    """Flow estimator (see preprocess.flow). guess(i, partners) -> (P, H, W, 2); stored: the DataDir to improve on."""

    reason = "started from a model"

    def __init__(self, guess, stored, name):
        """name: what the guess is, for .description."""
        self.guess, self.stored, self.dis = guess, stored, DisFlow(hints=self.hints)
        self.dis.load_frames(BoundedCache(stored.frame))
        self.description = {"method": "guided", "guess": name, "by": self.dis.description,
                            "first": stored.manifest["settings"]["flow"]}

    def load_frames(self, frames):
        """Nothing to do: the frames are those of the stored flow."""

    def flow_from(self, i, partners):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2)."""
        self.guesses = dict(zip(partners, self.guess(i, partners), strict=True))
        self.walked = i
        return self.dis.flow_from(i, partners)

    def hints(self, i, j):
        """The model's flow and the stored flow."""
        at_hand = i == self.walked and j in self.guesses  # else adjacent frames on the way
        return [self.guesses[j] if at_hand else self.guess(i, [j])[0], self.stored.flow(i, j)]
