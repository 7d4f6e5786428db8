"""What preprocessing asks of a flow estimator, whatever it is.

Conventions: frames are uint8 RGB (H, W, 3); flow is float32 (H, W, 2), (x, y) displacement in pixels of the frame.
"""


class Estimator:
    """Optical flow between any two frames of a video. Frames are shared out among processes by pickling an estimator
    that has taken none yet; each process then gives it the frames.

    description: dict of what the flow depends on: where it changes, flow is estimated again. reason: why it was chosen.
    """

    description = {}
    reason = ""

    def load_frames(self, frames, adjacent=None):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3).

        adjacent: what self.adjacent has found already, by frame; None: it is found here when it is needed.
        """
        raise NotImplementedError

    def flow_from(self, i, partners, ahead=None):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2). ahead: see there."""
        raise NotImplementedError

    def adjacent(self, i, ahead=(None, None)):
        """What the flow of many frames depends on: an array of flow from frame i to i + 1 and back; None: of nothing.

        ahead: what the method of that name says of (i, [i + 1]) and of (i + 1, [i]).
        """

    def ahead(self, sources):
        """For each of several (i, partners): what only the first process can do for the others, on a GPU; or None."""
        return [None] * len(sources)

    def for_workers(self):
        """The same for processes that get everything that `ahead` has."""
        return self
