"""What is to be done with each video: commands of this project, in stages, each with a key of all that it depends on.

A stage whose key is recorded as done, and whose product is there, is not done again. Keys are chained: that of training
holds that of preprocessing, and so on, so that a changed setting does again what comes after it and nothing else.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from files import UserError, read_json
from pipeline import resources, status
from pipeline.videos import Video, find_sources, mark_of, name_sources, size_of, title
from util import file_hash

ROOT = Path(__file__).resolve().parents[1]
FILE, FORMAT, VERSION = "plan.json", "omnimotion-results", 1
KEEP = ("tracks", "run", "all")
OF_MODEL = ("tracks", "videos", "page", "score")  # outputs that are made from the run and its data directory
TASKS = ("data", "fit", "outputs")


@dataclass(frozen=True)
class Settings:
    """What is asked for, of all videos. Paths are absolute."""

    config: str
    preprocess_args: tuple = ()
    train_args: tuple = ()
    shape: dict = field(default_factory=dict)  # max_side, start, end, max_interval, on_cpu: of preprocess_args
    queries: dict = field(default_factory=dict)  # {name: QUERIES}; of the others the entry ""
    what: tuple = ("tracks", "trails")
    page: bool = False
    export: dict = field(default_factory=dict)  # {format: suffix}
    truth: str | None = None
    truths: frozenset = frozenset()  # names of the videos that the truth knows
    query_mode: str = "strided"
    scratch: str | None = None
    keep: str = "all"


@dataclass(frozen=True)
class Stage:
    """Commands (arguments of this Python), and what they make, in the video's folder or absolute."""

    name: str
    key: str
    commands: tuple
    product: str
    frugal: tuple = ()  # options of its first command that take less memory and give the same


@dataclass(frozen=True)
class VideoPlan:
    """All that a machine needs to know to do one video."""

    video: Video
    folder: str  # of its results
    data: str
    stages: tuple
    needs: dict  # {task: Need}
    keep: str
    scratch: bool

    @property
    def name(self):
        return self.video.name

    def tasks(self):
        """The tasks in their order: (their stages' names, Need). With scratch all on one machine."""
        names = {"data": ("data",), "fit": ("fit",), "outputs": tuple(stage.name for stage in self.stages[2:])}
        if self.scratch:
            return [(sum(names.values(), ()), resources.greatest(self.needs.values()))]
        return [(names[task], self.needs[task]) for task in TASKS]


# Plans


def make_plan(inputs, out, settings):
    """[VideoPlan] of all videos that the inputs name, recorded in OUT/plan.json. UserError: none, or OUT is taken."""
    sources, out = find_sources(inputs), Path(out).resolve()
    earlier = read_earlier(out)
    known = {entry["source"]: (name, entry) for name, entry in earlier.items()}
    if earlier and not any(source in known for source in sources):
        some = ", ".join(list(earlier)[:3]) + (" ..." if len(earlier) > 3 else "")
        raise UserError(f"--out {out}: holds another plan's results ({some}), of none of these videos; "
                        "expected a new folder, or at least one of its videos among them")
    own = settings.shape.get("of_one_video")
    if own and len(sources) > 1:
        raise UserError(f"--preprocess_args: --{own[0]} is of one video, but there are {len(sources)}")
    names = name_sources(sources, {source: name for source, (name, _) in known.items()})
    videos = [video_of(source, names[source], known.get(source, (None, {}))[1]) for source in sources]
    out.mkdir(parents=True, exist_ok=True)
    entries = {video.name: {"source": video.source, "mark": video.mark, "size": video.size} for video in videos}
    content = {"format": FORMAT, "version": VERSION, "videos": earlier | entries}
    status.write_json(out / FILE, content)
    check_names(settings, earlier | entries)
    return [plan_video(video, out, settings) for video in videos]


def video_of(source, name, entry):
    """The Video; its size is not asked for again while its files are the same."""
    mark = mark_of(source)
    if tuple(entry.get("mark", ())) == mark:
        return Video(name, source, entry["size"] and tuple(entry["size"]), mark)
    return Video(name, source, size_of(source), mark)


def read_earlier(out):
    """{name: entry} of the plan that the folder holds; {} of a new one. UserError: it is something else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file; expected a new folder or earlier results")
    path = out / FILE
    if not path.exists():
        others = [file.name for file in out.iterdir() if not file.name.startswith(".")] if out.exists() else []
        if others:
            raise UserError(f"--out {out}: holds other files ({others[0]}); expected a new folder or earlier results")
        return {}
    content = read_json(path, "a plan of this program, or another folder")
    try:
        found, version, videos = content["format"], content["version"], content["videos"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable plan (no {error}); choose another folder") from None
    if (found, version) != (FORMAT, VERSION):
        raise UserError(f"{path}: {found} version {version}, this program reads {FORMAT} version {VERSION}; choose "
                        "another folder")
    return videos


def check_names(settings, entries):
    """UserError for queries of a video that there is not."""
    for name in settings.queries:
        if name and name not in entries:
            raise UserError(f"--queries {name}=...: no video of that name; there are {', '.join(list(entries)[:9])}")


# Stages of a video


def plan_video(video, out, settings):
    folder = out / video.name
    root = Path(settings.scratch) / digest(str(out))[:8] / video.name if settings.scratch else folder
    shape = {key: settings.shape.get(key) for key in ("max_side", "start", "end")}
    size, interval = resources.as_processed(video.size, **shape), settings.shape.get("max_interval")
    needs = resources.needs(size, interval, flow_on_gpu=not settings.shape.get("on_cpu"))
    stages = stages_of(video, folder, root / "data", settings)
    return VideoPlan(video, str(folder), str(root / "data"), stages, needs, settings.keep, bool(settings.scratch))


def stages_of(video, folder, data, settings):
    """The Stages in their order; the product of `data` is the data directory, of `fit` the run."""
    run, model = folder / "run", ("--run", folder / "run", "--data_dir", data)
    queries = settings.queries.get(video.name) or settings.queries.get("") or "grid"
    stages, keys = [], {}

    def add(name, depends_on, made_with, commands, product, frugal=()):
        keys[name] = digest(keys.get(depends_on, ""), *made_with)
        commands = tuple(tuple(map(str, command)) for command in commands)
        stages.append(Stage(name, keys[name], commands, str(product), frugal))

    add("data", None, (video.source, video.mark, tuple(map(content_of, settings.preprocess_args))),
        [("-m", "preprocess", video.source, "--data_dir", data, "--overwrite", *settings.preprocess_args)], data,
        ("--workers", "1"))
    add("fit", "data", (content_of(settings.config), settings.train_args),
        [("train.py", "--config", settings.config, "--data_dir", data, "--out_dir", run, "--quiet",
          *settings.train_args)], run, ("--storage", "disk"))
    add("tracks", "fit", (content_of(queries),),
        [("track.py", *model, "--queries", queries, "--out", folder / "tracks.npz")], "tracks.npz", ("--chunk", "1024"))
    if settings.what:
        add("videos", "fit", settings.what,
            [("viz.py", *model, "--out", folder / "videos", "--what", ",".join(settings.what))], "videos",
            ("--chunk", "1024"))
    if settings.page:
        add("page", "fit", (), [page_command(model, folder / "page.html")], "page.html")
    if settings.export:
        add("exports", "tracks", sorted(settings.export), [
            ("export.py", folder / "tracks.npz", "--to", name, "--out", folder / "exports" / (name + suffix),
             "--overwrite") for name, suffix in sorted(settings.export.items())], "exports")
    if title(video.source) in settings.truths:
        add("score", "fit", (settings.truth, mark_of(settings.truth), settings.query_mode),
            [("evaluate.py", "--ground_truth", settings.truth, "--only", title(video.source), *model, "--query_mode",
              settings.query_mode, "--out", folder / "score.json")], "score.json")
    return tuple(stages)


def page_command(model, path):
    """The viewer's page of a run, in one file."""
    return ("view.py", *model, "--save", path, "--overwrite")


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def content_of(text):
    """What a setting stands for: of a file its content's hash, of a folder its files' hashes, of other text itself."""
    path = Path(text)
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        return digest(*((file.name, file_hash(file)) for file in sorted(path.iterdir()) if file.is_file()))
    return text


# What is left to do


def left(plan):
    """Names of the stages that are still to be done, in their order, as the video's folder and status.json are now.

    A data directory or run that is gone (--keep) is made again only where something that is left is made from it.
    """
    done = status.read(plan.folder)["stages"]

    def recorded(stage):
        entry = done.get(stage.name, {})
        return entry.get("state") == "done" and entry.get("key") == stage.key

    def there(stage):
        path = Path(plan.folder) / stage.product
        return (path / {"data": "manifest.json", "fit": "checkpoints"}.get(stage.name, "")).exists()

    data, fit, *outputs = plan.stages
    stale = [stage for stage in outputs if not (recorded(stage) and there(stage))]
    of_model = any(stage.name in OF_MODEL for stage in stale)
    fits = not recorded(fit) or (of_model and not there(fit))
    needs_data = not recorded(data) or ((fits or of_model) and not there(data))
    return [*["data"] * needs_data, *["fit"] * fits, *(stage.name for stage in stale)]


def tidy_list(plan):
    """Folders that are not kept once the video is done."""
    gone = [] if plan.keep == "all" and not plan.scratch else [Path(plan.data)]
    return gone + ([Path(plan.folder) / "run"] if plan.keep == "tracks" else [])
