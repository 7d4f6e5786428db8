"""The frames that a data directory was made from, at their own size: what may still be done on the original video.

Conventions: frames are uint8 (H, W, 3) RGB in the order and number of the data directory, not scaled.
"""

from preprocess.frames import FrameOptions, open_source
from util import UserError


class OriginalFrames:
    """The same frames as a data directory's, before they were scaled; iterated any number of times, decoded each time.

    UserError where they are not to be had: the source is gone, has other content, or was never a file. Frames that
    were not scaled are the data directory's own.
    """

    def __init__(self, data):
        self.data, self.options, self.source = data, None, None
        self.num_frames = data.num_frames
        if (data.height, data.width) != (data.original_height, data.original_width):
            self.options, self.source = recorded_options(data), recorded_source(data)

    def __len__(self):
        return self.num_frames

    def __iter__(self):
        if self.source is None:
            yield from map(self.data.frame, range(self.num_frames))
            return
        size = self.data.original_height, self.data.original_width
        number = 0
        for frame in self.options.select(self.source.frames(self.options.fps)):
            if number == self.num_frames or frame.shape[:2] != size:
                break
            yield frame
            number += 1
        if number != self.num_frames:
            raise UserError(f"{self.source.path}: gives {number} frames of {size[1]}x{size[0]}, "
                            f"expected the {self.num_frames} of {self.data.path}")


def recorded_options(data):
    """Which frames of the source were taken. UserError when the manifest does not say."""
    recorded = data.manifest["settings"].get("frames")
    if recorded is None:
        raise UserError(f"{data.path}: does not say which frames of its video it holds; preprocess again")
    return FrameOptions(**recorded)


def recorded_source(data):
    """The video or folder that a data directory was made from. UserError when it is gone or another."""
    video = data.manifest["video"]
    if not video["source"]:
        raise UserError(f"{data.path}: made from frames in memory, which are not kept at their original size")
    try:
        source = open_source(video["source"])
        same = source.fingerprint() == video.get("source_fingerprint")
    except (UserError, OSError) as error:
        raise UserError(f"the video that {data.path} was made from cannot be read: {error}") from None
    if not same:
        raise UserError(f"{video['source']}: changed since {data.path} was made from it")
    return source
