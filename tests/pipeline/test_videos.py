"""Which videos inputs name, and what they are called."""

import os

import numpy as np
import pytest

from loaders.data_dir import write_image
from pipeline import videos
from util import UserError


def frames(folder, count=3, size=(20, 30)):
    for k in range(count):
        write_image(folder / f"{k}.png", np.zeros((*size, 3), np.uint8))
    return folder


@pytest.fixture
def collection(tmp_path):
    """Two files, a folder of frames, a prepared video, what is none, and a list."""
    for name in ("b.mp4", "a.MOV", "notes.md"):
        (tmp_path / name).write_bytes(b"x")
    frames(tmp_path / "cat")
    frames(tmp_path / "dog" / "frames")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("# ours\nb.mp4\n\ncat\n", encoding="utf-8")
    return tmp_path


def relative(found, folder):
    return [os.path.relpath(path, folder) for path in found]


def test_files_folders_lists_and_patterns(collection):
    everything = ["a.MOV", "b.mp4", "cat", "dog/frames"]
    assert relative(videos.find_sources([collection]), collection) == everything
    assert relative(videos.find_sources([collection / "list.txt", collection]), collection) == [
        "b.mp4", "cat", "a.MOV", "dog/frames"]  # each once, in order
    assert relative(videos.find_sources([collection / "*.mp4"]), collection) == ["b.mp4"]
    assert relative(videos.find_sources([collection / "cat", collection / "dog"]), collection) == ["cat", "dog/frames"]


def test_inputs_that_name_no_video(collection):
    for text in ("none.mp4", "*.avi"):
        with pytest.raises(UserError, match="no such file or folder, and nothing that matches"):
            videos.find_sources([collection / text])
    with pytest.raises(UserError, match="no video there"):
        videos.find_sources([collection / "empty"])
    (collection / "list.txt").write_text("b.mp4\ngone.mp4\n", encoding="utf-8")
    with pytest.raises(UserError, match="list.txt, line 2: gone.mp4: no such file"):
        videos.find_sources([collection / "list.txt"])


def test_names_never_clash_and_stay_in_the_folder():
    sources = ["/x/a.mp4", "/y/a.mp4", "/z/A.mov", "/x/.. .mp4", "/x/?.mp4", "/x/index.html.mp4", "/x/größe 1.mp4",
               "/x/" + "n" * 300]
    names = videos.name_sources(sources, {})
    assert list(names.values()) == ["a", "a-2", "A-3", "video", "video-2", "index.html-2", "größe_1", "n" * 80]
    assert all("/" not in name and name.strip(".") == name for name in names.values())
    more = videos.name_sources(["/new/a.mp4", "/y/a.mp4"], names)  # who was there keeps its name
    assert more == {"/new/a.mp4": "a-4", "/y/a.mp4": "a-2"}


def test_sizes_and_marks(tmp_path):
    from benchmarks.scenes import write_mp4

    video = np.random.default_rng(0).integers(0, 255, (7, 32, 48, 3), dtype=np.uint8)
    write_mp4(tmp_path / "a.mp4", video, 12)
    assert videos.size_of(tmp_path / "a.mp4") == (7, 32, 48)
    assert videos.size_of(frames(tmp_path / "cat")) == (3, 20, 30)
    (tmp_path / "b.mp4").write_bytes(b"nonsense")
    assert videos.size_of(tmp_path / "b.mp4") is None
    before = videos.mark_of(tmp_path / "cat")
    assert before == videos.mark_of(tmp_path / "cat") and before[0] == 3
    frames(tmp_path / "cat", 4)
    assert videos.mark_of(tmp_path / "cat") != before
