"""Files for evaluate.py, and the command as a function."""

import pickle

import cv2
import numpy as np
import pytest

import evaluate


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


def run_command(*arguments):
    evaluate.main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """The one line that a wrong command prints."""
    with pytest.raises(SystemExit) as stopped:
        run_command(*arguments)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


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
