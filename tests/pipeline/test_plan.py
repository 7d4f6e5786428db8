"""Keys of stages: what is done again when a setting changes; folders of other plans; resources by size."""

import json
from dataclasses import replace

import pytest

from pipeline import plan, resources, status
from pipeline.videos import Video
from util import UserError

SETTINGS = plan.Settings("configs/default.txt")
VIDEO = Video("a", "/videos/a.mp4", (50, 480, 854), (1, 2, 3))


def keys(tmp_path, video=VIDEO, **changes):
    made = plan.plan_video(video, tmp_path, replace(SETTINGS, **changes))
    return {stage.name: stage.key for stage in made.stages}


@pytest.mark.parametrize("changes, again", [
    ({}, set()),
    ({"preprocess_args": ("--max_side", "64")}, {"data", "fit", "tracks", "videos", "page", "exports"}),
    ({"train_args": ("--seed", "1")}, {"fit", "tracks", "videos", "page", "exports"}),
    ({"config": "configs/volume.txt"}, {"fit", "tracks", "videos", "page", "exports"}),
    ({"queries": {"": "grid:4"}}, {"tracks", "exports"}),
    ({"queries": {"a": "grid:4"}}, {"tracks", "exports"}),
    ({"queries": {"b": "grid:4"}}, set()),
    ({"what": ("flow",)}, {"videos"}),
    ({"export": {"csv": ".csv", "nuke": ".nk"}}, {"exports"}),
    ({"scratch": "/scratch", "keep": "run"}, set()),
])
def test_what_is_done_again(tmp_path, changes, again):
    base = {"page": True, "export": {"nuke": ".nk"}}
    before, after = keys(tmp_path, **base), keys(tmp_path, **(base | changes))
    assert {name for name in before if before[name] != after[name]} == again


def test_another_file_of_the_same_name_is_another_video(tmp_path):
    other = replace(VIDEO, mark=(1, 2, 4))
    assert not set(keys(tmp_path).values()) & set(keys(tmp_path, other).values())


def test_left_over_stages(tmp_path):
    made = plan.plan_video(VIDEO, tmp_path, SETTINGS)
    folder = tmp_path / "a"
    assert plan.left(made) == ["data", "fit", "tracks", "videos"]
    for path in ("data/manifest.json", "run/checkpoints/x", "tracks.npz", "videos/tracks.mp4"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    done = {stage.name: {"key": stage.key, "state": "done"} for stage in made.stages}
    status.update(folder, stages=done)
    assert plan.left(made) == []
    status.update(folder, stages=done | {"fit": done["fit"] | {"state": "begun"}})
    assert plan.left(made) == ["fit"]
    status.update(folder, stages=done)
    assert plan.left(plan.plan_video(VIDEO, tmp_path, replace(SETTINGS, queries={"": "grid:2"}))) == ["tracks"]
    (folder / "status.json").write_text("{half")  # as of a disk that was full
    assert plan.left(made) == ["data", "fit", "tracks", "videos"]


def test_commands_are_those_that_a_user_types(tmp_path):
    made = plan.plan_video(VIDEO, tmp_path, replace(SETTINGS, page=True, export={"nuke": ".nk"}, truth=str(tmp_path),
                                                    truths=frozenset(["a"]), scratch="/scratch"))
    commands = {stage.name: stage.commands for stage in made.stages}
    assert [command[0] for command in sum(commands.values(), ())] == [
        "-m", "train.py", "track.py", "viz.py", "view.py", "export.py", "evaluate.py"]
    assert made.data.startswith("/scratch/") and made.data.endswith("/a/data")
    assert commands["data"][0][1:5] == ("preprocess", "/videos/a.mp4", "--data_dir", made.data)
    assert commands["exports"][0][1:] == (str(tmp_path / "a/tracks.npz"), "--to", "nuke", "--out",
                                          str(tmp_path / "a/exports/nuke.nk"), "--overwrite")
    assert len(made.tasks()) == 1 and len(plan.plan_video(VIDEO, tmp_path, SETTINGS).tasks()) == 3


def test_what_is_of_one_video_is_for_one_and_a_change_in_it_is_noticed(tmp_path):
    for name in ("a.mp4", "b.mp4", "layers/00000.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    given = "--layers", str(tmp_path / "layers")
    settings = replace(SETTINGS, preprocess_args=given, shape={"of_one_video": ["layers"]})
    with pytest.raises(UserError, match="--layers is of one video, but there are 2"):
        plan.make_plan([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "out", settings)
    before, = plan.make_plan([tmp_path / "a.mp4"], tmp_path / "out", settings)
    same, = plan.make_plan([tmp_path / "a.mp4"], tmp_path / "out", settings)
    (tmp_path / "layers/00000.png").write_bytes(b"y")
    after, = plan.make_plan([tmp_path / "a.mp4"], tmp_path / "out", settings)
    assert before.stages[0].key == same.stages[0].key != after.stages[0].key


def test_folders_of_other_plans(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    out = tmp_path / "out"
    made = plan.make_plan([tmp_path / "a.mp4"], out, SETTINGS)
    assert [one.name for one in made] == ["a"]
    with pytest.raises(UserError, match=r"holds another plan's results \(a\), of none of these videos"):
        plan.make_plan([tmp_path / "b.mp4"], out, SETTINGS)
    assert [one.name for one in plan.make_plan([tmp_path], out, SETTINGS)] == ["a", "b"]  # picks up new files
    with pytest.raises(UserError, match="--queries c=...: no video of that name; there are a, b"):
        plan.make_plan([tmp_path], out, replace(SETTINGS, queries={"c": "grid"}))
    content = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(content | {"version": 9}))
    with pytest.raises(UserError, match="omnimotion-results version 9, this program reads"):
        plan.make_plan([tmp_path], out, SETTINGS)
    (out / "plan.json").write_text("{")
    with pytest.raises(UserError, match="expected a plan of this program, or another folder"):
        plan.make_plan([tmp_path], out, SETTINGS)
    with pytest.raises(UserError, match=r"holds other files \([ab].mp4|out\)"):
        plan.make_plan([tmp_path], tmp_path, SETTINGS)
    with pytest.raises(UserError, match="a file; expected a new folder"):
        plan.make_plan([tmp_path], tmp_path / "a.mp4", SETTINGS)


def test_resources_grow_with_size_and_length():
    """By hand: 10 frames have 90 pairs; 4 bytes of flow and 2 bits of masks each."""
    assert resources.correspondences((10, 100, 200)) == 90 * 100 * 200 * 4.25
    small, large = resources.needs((12, 48, 64)), resources.needs((50, 480, 854))
    assert small["data"].cores == 1 and large["data"].cores == resources.MOST_CORES
    assert all(small[task].memory < large[task].memory for task in small)
    assert large["data"].gpus == 0 and small["fit"].gpus == large["fit"].gpus == 0.25
    assert resources.needs((100, 480, 854))["fit"].gpus == 0.5  # 2.5 + 3.4 of 16 GB, in quarters
    assert resources.as_processed((100, 480, 854), max_side=427, start=10, end=60) == (50, 240, 427)
    assert resources.as_processed(None) == resources.UNKNOWN
    need = resources.Need(8, 10**10, 0.5)
    assert need.within(2, 10**9, 0) == resources.Need(2, 10**9, 0) and need.within(64, 10**11, 4) == need
    assert resources.greatest([need, resources.Need(9, 1, 0)]) == resources.Need(9, 10**10, 0.5)
