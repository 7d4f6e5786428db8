"""Files for evaluate.py, and the command as a function."""

import pickle
from functools import partial

import cv2
import numpy as np

import evaluate
from tests.helpers.commands import call, refused


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def as_tracks(truth_file, path, shift=0.0, order=None, **replaced):
    """A tracks file with the truth itself, moved by `shift` pixels."""
    truth = dict(np.load(truth_file))
    order = np.arange(len(truth["occluded"])) if order is None else order
    arrays = {
        "query_points": truth["query_points"][order],
        "tracks": truth["target_points"][order] + shift,
        "occluded": truth["occluded"][order],
        "video_size": truth["video_size"],
    }
    return write_npz(path, **(arrays | replaced))


run_command = partial(call, evaluate.main)


def fails(capsys, *arguments):
    """The one line that a wrong command prints."""
    return refused(capsys, evaluate.main, *arguments)


def tapvid_example(seed, num_frames=11, encoded=False, size=(24, 32)):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 255, (num_frames, *size, 3), dtype=np.uint8)
    if encoded:
        video = np.array([cv2.imencode(".jpg", frame)[1].tobytes() for frame in video])
    occluded = rng.random((6, num_frames)) < 0.4
    occluded[0] = True
    return {"video": video, "points": rng.random((6, num_frames, 2)), "occluded": occluded}


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path
