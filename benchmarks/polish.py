"""What polishing on the original frames does to tracks: python -m benchmarks.polish --seeds 1

Scenes with depth are rendered large, preprocessed small, and tracked by the stored flow, without and with a last pass
on the large frames (tracking/polish.py). Errors are of true visible positions outside the query's frame, in pixels of
the large frame. Rendering takes most of the time: about a minute for ten frames of 1080p on a free core.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.experiments import command_line, named_scene, publish
from evaluation import report
from loaders.data_dir import write_image
from preprocess import build
from preprocess.original import OriginalFrames
from tracking.polish import SETTINGS, Plates, polish
from tracking.sources import open_flow, track_queries
from util import atomic_path, command, load_npz

FIGURES = ("median px", "seen: median px", "mean px", "<= 0.5 px", "<= 4 px", "moved", "s")


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.polish", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scenes", nargs="+", default=["3d-walker", "3d-tumble", "3d-balls"], metavar="KIND")
    add("--seeds", nargs="+", type=int, default=[0, 1], help="settings were chosen on seed 0 (default: 0 and 1)")
    add("--num_frames", type=int, default=12)
    add("--height", type=int, default=1080)
    add("--width", type=int, default=1920)
    add("--max_side", type=int, default=480, help="what the frames are preprocessed at (default: %(default)s)")
    add("--num_points", type=int, default=512, help="of each scene (default: %(default)s)")
    add("--sensitivity", action="store_true", help="also each setting halved and doubled, alone")
    add("--work", type=Path, default=Path("runs/polish"), help="folder for frames and data; what is there is kept")
    add("--out", type=Path, default=Path("benchmarks/results/polish.md"))
    return parser.parse_args(arguments)


def prepare(options, kind, seed):
    """The folder with a scene's frames/, ground_truth.npz and, preprocessed, data/."""
    scene = named_scene(kind, seed, options.num_frames, options.height, options.width)
    size = f"{scene.name}-{options.width}x{options.height}-{options.num_frames}"
    folder = options.work / size
    for index in range(options.num_frames):
        if not (image := folder / f"frames/{index:05d}.png").exists():
            write_image(image, scene.frame(index))
    truth = folder / f"truth-{options.num_points}.npz"
    if not truth.exists():
        with atomic_path(truth) as path:
            np.savez_compressed(path, **scene.ground_truth(options.num_points))
    data = build(folder / "frames", folder / f"data-{options.max_side}", flow="dis", max_side=options.max_side,
                 quiet=True)
    return data, load_npz(truth)


def figures(tracks, before, seen, truth, seconds):
    """FIGURES of tracks (Q, N, 2) that see points where `seen` (Q, N); `before`: the tracks that were not polished."""
    counted = ~truth["occluded"]
    counted[np.arange(len(counted)), truth["query_points"][:, 0].astype(int)] = False
    error, seen = np.linalg.norm(tracks - truth["target_points"], axis=-1)[counted], seen[counted]
    moved = (tracks != before).any(-1)[counted]
    pixels = np.median(error), np.median(error[seen]), error.mean()
    shares = (error <= 0.5).mean(), (error <= 4).mean(), moved.mean()
    return [*(f"{value:.2f}" for value in pixels), *(f"{share:.1%}" for share in shares), f"{seconds:.0f}"]


def measure(options, kind, seed):
    """Rows of the table, a scene without and with polishing; and of the table of settings halved and doubled."""
    data, truth = prepare(options, kind, seed)
    began = time.monotonic()
    tracks = track_queries(open_flow(data.path), truth["query_points"])
    before, seen, tracked = tracks.tracks.copy(), ~tracks.occluded, time.monotonic()
    plates = Plates(OriginalFrames(data))
    polish(tracks, plates)
    rows = [("flow", before, tracked - began), ("flow, polished", tracks.tracks, time.monotonic() - tracked)]
    rows = [[f"{kind}-{seed}", name, *figures(places, before, seen, truth, seconds)] for name, places, seconds in rows]
    others = []
    for name, settings in varied(SETTINGS) if options.sensitivity else ():
        tracks.tracks[:] = before
        polish(tracks, plates, settings)
        others.append([name, f"{kind}-{seed}", *figures(tracks.tracks, before, seen, truth, 0)[:-1]])
    return rows, others


def varied(settings):
    """(name, settings) with each number halved and doubled."""
    for name, value in vars(settings).items():
        for words, factor in (("halved", 0.5), ("doubled", 2)):
            yield f"`{name}` {words}", replace(settings, **{name: type(value)(value * factor)})


@command
def main(arguments=None):
    options = parse_arguments(arguments)
    measured = [measure(options, kind, seed) for seed in options.seeds for kind in options.scenes]
    rows, others = ([row for scene in part for row in scene] for part in zip(*measured))
    table = report.markdown_table(["scene", "tracks", *FIGURES], rows)
    if others:
        others = report.markdown_table(["setting", "scene", *FIGURES[:-1]], sorted(others, key=lambda row: row[0]))
        table += f"\n\nSettings, each alone:\n\n{others}"
    publish(options.out, f"""# Tracks polished on the original frames

`{command_line("polish")}`

Frames of {options.width} x {options.height}, preprocessed at {options.max_side} with DIS. Errors are in pixels of the
original, of all positions that are truly visible but the query's own; seen: of those of them that the tracks see, too,
which are what polishing acts on. Moved: the share of all that it changed. s: seconds of tracking, and of polishing.

{table}
""")


if __name__ == "__main__":
    main()
