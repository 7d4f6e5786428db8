"""Plans whose commands are lines of Python: what becomes of them is known, and they take no time."""

from pathlib import Path

from pipeline import resources, status
from pipeline.plan import FILE, FORMAT, VERSION, Stage, VideoPlan
from pipeline.videos import Video

MAKE = "import pathlib, sys; path = pathlib.Path(sys.argv[1]); path.parent.mkdir(parents=True, exist_ok=True); "
COUNT = MAKE + "path.touch(); open(path.parents[1] / 'calls', 'a').write(path.parent.name + ' ')"
PRODUCTS = {"data": ("data", "data/manifest.json"), "fit": ("run", "run/checkpoints"), "tracks": ("out/t", "out/t")}


def stub_plan(out, name, scripts=None, keep="all"):
    """The plan of a video OUT/name of three stages, each of which notes its call and makes its product.

    scripts: {stage: Python in its place}, with sys.argv[1] the file to make.
    """
    folder = Path(out) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder.parent / FILE).exists():
        status.write_json(folder.parent / FILE, {"format": FORMAT, "version": VERSION, "videos": {}})
    stages = []
    for stage, (product, file) in PRODUCTS.items():
        script = (scripts or {}).get(stage, COUNT)
        command = ("-S", "-c", script, str(folder / file))
        path = product if stage == "tracks" else str(folder / product)
        stages.append(Stage(stage, f"{stage}-key", (command,), path, ("frugal",)))
    video = Video(name, f"/videos/{name}.mp4", (12, 48, 64), (1, 1, 1))
    needs = resources.needs(video.size)
    return VideoPlan(video, str(folder), str(folder / "data"), tuple(stages), needs, keep, False)


def calls(out, name):
    """The folders that the stages of a video wrote to, in order."""
    return (Path(out) / name / "calls").read_text().split()
