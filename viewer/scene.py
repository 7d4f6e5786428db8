"""What a page shows: frames, who answers, what is laid over, where corrections go."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from viewer.layers import Layers


@dataclass
class Scene:
    """frames: see viewer.frames; answers: at least one, see viewer.answers, the first of which pins are of.

    pins: the file of corrections. fitting: who fits the run to them (see viewer.fitting); None: it is no run.
    """

    frames: object
    answers: list
    layers: Layers
    pins: Path
    fitting: object = None
    writing: threading.Lock = field(default_factory=threading.Lock)  # held while pins are replaced

    def describe(self):
        """JSON of all but the numbers."""
        frames = self.frames
        return {
            "fits": self.fitting is not None,
            "name": frames.name, "num_frames": frames.num_frames, "fps": frames.fps, "layers": self.layers.names,
            "width": frames.video_size[1], "height": frames.video_size[0],
            "answers": [{"name": answer.name, "live": answer.live, "command": answer.command, "depth": answer.has_depth,
                         "count": 0 if answer.live else len(answer.all.tracks)} for answer in self.answers],
        }
