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
    walks = False  # whether flow depends on what `adjacent_many` finds
    flows_held = 1  # float32 flows that are held at once for each that is asked for

    def load_frames(self, frames, adjacent=None):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3).

        adjacent: frame -> what adjacent_many has found of it already; None: it is found here when it is needed.
        """
        raise NotImplementedError

    def flow_from(self, i, partners):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2), numpy or torch."""
        raise NotImplementedError

    def flow_from_many(self, sources):
        """The same for each of several (i, partners), one after the other; on a GPU together."""
        return (self.flow_from(i, partners) for i, partners in sources)

    def adjacent_many(self, frames):
        """Of an estimator that walks: for each of several frames i, an array of what the flow of many frames needs to
        know of the flow from frame i to i + 1 and back.
        """
        raise NotImplementedError

    def for_workers(self):
        """The same for processes that share the frames out; None where this one alone does the work, on a GPU."""
        return self
