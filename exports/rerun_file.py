"""Rerun's recording (.rrd, the extra `rerun`): the points of each frame as Points2D at `video/points`.

Pixels with y down from the upper left corner, centres at +0.5 as ours; the timeline `frame` counts from 0. What is
hidden says so itself: the class of each point is its visibility code, and the classes have names and colours. A viewer
opens recordings of the SDK's version that wrote them, and mostly of the few before.
"""

import numpy as np

from tracking.tracks_file import VISIBILITY

COLOURS = ((60, 200, 80), (230, 80, 60), (90, 130, 240), (240, 190, 50))  # of the codes of VISIBILITY


def write(tracks, options):
    """Tracks -> the bytes of a recording, by rerun-sdk."""
    import rerun

    recording = rerun.RecordingStream("omnimotion")
    stream = recording.binary_stream()
    classes = [(code, word, colour) for code, (word, colour) in enumerate(zip(VISIBILITY, COLOURS))]
    recording.log("video", rerun.AnnotationContext(classes), static=True)
    height, width = tracks.video_size
    recording.log("video/frame", rerun.Boxes2D(mins=[[0, 0]], sizes=[[width, height]]), static=True)
    names, codes, known = np.array(options.names), tracks.visibility, np.isfinite(tracks.tracks).all(axis=-1)
    for frame, there in enumerate(known.T):
        recording.set_time("frame", sequence=frame)
        recording.log("video/points", rerun.Points2D(
            tracks.tracks[there, frame], class_ids=codes[there, frame], keypoint_ids=np.flatnonzero(there),
            labels=names[there], show_labels=False))
    return stream.read()
