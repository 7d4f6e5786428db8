"""The comparison of devices and the costs of stages, on the CPU alone: that they run, and what they would show."""


import pytest

from benchmarks import gpu, meter, stages
from benchmarks.scenes import make_scene
from loaders.data_dir import DataDir


def test_a_device_equals_itself_and_every_stage_is_in_the_table(tmp_path, monkeypatch, capsys):
    make_scene("occlusion", 0, 5, 40, 56).save(tmp_path / "clip")
    smaller = ["--field_width", "8", "--num_pairs", "4"]
    monkeypatch.setattr(gpu, "SMALL", {name: [*options, *smaller] for name, options in gpu.SMALL.items()})
    monkeypatch.setattr(gpu, "STEPS", 2)
    gpu.main(["--device", "cpu", "--flow", "dis", "--source", str(tmp_path / "clip/frames"), "--frames", "4", "--steps",
              "2", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert " NO " not in page and "BAD" not in capsys.readouterr().out
    for name in ("census", "walk", "filter and chain", "default.txt: gradient", "volume.txt: mean distance of tracks",
                 "recorded step"):
        assert name in page
    for stage in (*stages.STAGES.values(), "training", "tracks of 1,000 points"):
        assert f"| {stage} " in page
    assert "4 frames of 56 x 40, 12 pairs" in page


def test_what_breaks_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel\nlong text")
        yield

    monkeypatch.setattr(gpu, "check_appearance", broken)
    for name in ("check_raft", "check_walk", "check_objective", "check_graph", "check_training"):
        monkeypatch.setattr(gpu, name, lambda *_: iter(()))
    found = list(gpu.all_checks(stages.pick_device("cpu"), tmp_path / "none", tmp_path))
    failed = [check for check in found if not check.passed]
    assert len(failed) == 1 and failed[0].name.startswith("broken") and "no kernel" in failed[0].name
    assert any(check.name.startswith("filter and chain") for check in found)


def test_a_meter_counts_time_and_memory():
    cost = meter.Cost()
    for _ in range(2):  # adds up
        with meter.metered(cost):
            block = bytearray(300 * 2**20)
            block[::4096] = b"x" * len(block[::4096])
            sum(range(10**6))
            done = meter.threading.Event()
            done.wait(0.2)
            del block
    assert cost.seconds > 0.4 and 0 < cost.cpu_seconds < cost.seconds and cost.memory > 300 * 2**20


def test_other_processes_are_busy_until_the_measurement_ends(tmp_path, monkeypatch):
    make_scene("occlusion", 0, 4, 24, 32).save(tmp_path / "clip")
    started, real = [], stages.subprocess.Popen
    monkeypatch.setattr(stages.subprocess, "Popen", lambda *asked: started.append(real(*asked)) or started[-1])
    monkeypatch.setattr(stages, "measure_stages", lambda options: [other.poll() for other in started])
    options = stages.parse_arguments(["--source", str(tmp_path / "clip/frames"), "--busy", "2"])
    assert stages.measure(options) == [None, None]
    assert all(other.returncode for other in started)


def test_stages_can_be_measured_by_plain_flow(tmp_path):
    make_scene("occlusion", 0, 4, 40, 56).save(tmp_path / "clip")
    stages.main(["--source", str(tmp_path / "clip/frames"), "--flow", "plain", "--steps", "0", "--workers", "1",
                 "--work", str(tmp_path / "work"), "--out", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "4 frames of 56 x 40, 12 pairs" in page and "| flow " in page and "| training" not in page
    assert DataDir.open(tmp_path / "work/data").manifest["settings"]["flow"]["mode"].startswith("preset fast")
    with pytest.raises(SystemExit):
        stages.main(["--flow", "plain", "--no_fusion", "--work", str(tmp_path / "work")])
