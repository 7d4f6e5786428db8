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
    walks = False  # whether flow depends on what `adjacent` finds

    def load_frames(self, frames, adjacent=None):
        """Take the frames of a video: (N, H, W, 3) uint8, or a sequence of (H, W, 3).

        adjacent: what self.adjacent has found already, by frame; None: it is found here when it is needed.
        """
        raise NotImplementedError

    def flow_from(self, i, partners, ahead=None):
        """Flow from frame i to each of `partners` -> float32 (len(partners), H, W, 2), numpy, or torch on a GPU.

        ahead: what the method of that name says of it, numpy or torch.
        """
        raise NotImplementedError

    def adjacent(self, i, ahead=None):
        """Of an estimator that walks: an array of flow from frame i to i + 1 and back, for the flow of many frames.

        ahead: what `both_ways` says.
        """
        raise NotImplementedError

    def ahead(self, sources):
        """For each of several (i, partners) what one process finds for all, on a GPU: None, or what flow_from takes.

        Where workers need it, {name: flows (len(partners), H, W, 2)}.
        """
        return [None] * len(sources)

    def both_ways(self, frames):
        """For each of several frames i the same of the pair (i, i + 1): None, or {name: flows (2, H, W, 2)}."""
        return [None] * len(frames)

    def for_workers(self):
        """The same for processes that are given what `ahead` says; None where that leaves them nothing to do."""
        return self
