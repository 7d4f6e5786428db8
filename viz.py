"""Look at a fitted run (or flow alone): videos and images of tracks, trails, matches, depth, colour and flow."""

import argparse
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

import util
from files import MOST_PIXELS
from flow.formats import flow_to_color
from loaders.data_dir import DataDir, write_image
from networks import query
from outputs import draw
from outputs.options import add_layer_option, add_run_options, make_folder, object_mask, open_source, positive
from outputs.stabilise import camera_motion, stabilised_history
from outputs.video import video_writer
from tracking.queries import check_frame, default_step, grid_queries, points_on_mask
from tracking.sources import chunk_option, needs_run, resize_map, track_queries
from tracking.tracks_file import read_tracks, select
from util import UserError, inside_video, whole

KINDS = ["tracks", "trails", "correspondences", "depth", "color", "flow"]
OF_MODELS = ["depth", "color"]  # kinds that flow alone cannot give
DISTANCES = [0.1, 0.5, 1.0]  # of the correspondence images, as shares of the video's length
NUM_POINTS = {"tracks": 600, "trails": 200, "background": 300, "correspondences": 48}  # aimed at by the default grids
SMALL = 240  # a video with a shorter side is better looked at with --scale

EPILOG = """what is drawn:
  tracks           points coloured by where they start; a hollow cross where a point is occluded
  trails           where points came from; with a mask only the object's, drawn as if the camera had stood still
                   (the median motion of the points off the mask is taken out)
  correspondences  images: the query frame beside the frames 10 %, 50 % and 100 % of the video away, with matches
  depth            pseudo-depth, near warm and far cold
  color            the rendered video beside the input
  flow             motion from each frame to the next: hue is direction, saturation is length (see the wheel)
With --data_dir and no --run all but depth and color, by the flow of preprocessing.
depth, color and flow compute every pixel of every frame: on a CPU start with --what tracks,trails,correspondences.

Videos are H.264 and play everywhere; they have the original video's size times --scale. (H.264 wants even sides: an odd
one grows by a repeated line.)

example:
  python viz.py --run runs/dog --out videos/ --what tracks,trails --mask dog.png"""


@dataclass
class Scene:
    """What all drawings need: where tracks come from, the frames, and the size (H, W) they are drawn at."""

    source: object  # see tracking.sources
    data: DataDir
    size: tuple[int, int]
    args: argparse.Namespace
    folder: Path
    grids: dict = field(default_factory=dict)  # tracks by their aimed-at number, since drawings share them

    def frame(self, i):
        """uint8 (H, W, 3): input frame i at the size of the drawing."""
        return self.enlarge(self.data.frame(i))

    def enlarge(self, image):
        """Any image or map of the model's size at the size of the drawing."""
        interpolation = cv2.INTER_CUBIC if self.size[0] > image.shape[0] else cv2.INTER_AREA
        if image.shape[:2] == self.size:
            return image
        return cv2.resize(image, self.size[::-1], interpolation=interpolation)

    def place(self, positions):
        """Positions (..., 2) in pixels of the original video -> pixels of the drawing."""
        return positions * (np.array(self.size[::-1]) / np.array(self.source.video_size[::-1]))

    def writer(self, name):
        return video_writer(self.folder / f"{name}.mp4", self.source.fps)

    def each_frame(self, name, count=None):
        return tqdm(range(count or self.source.num_frames), desc=name, unit="frame")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to; default: the folder videos/ in the run")
    parser.add_argument("--what", metavar="LIST",
                        help=f"which, separated by commas; default: all of {','.join(KINDS)} that there are")
    parser.add_argument("--scale", type=positive, default=1, metavar="N",
                        help="enlarge N times, for small videos: drawings stay sharp; default 1")
    points = parser.add_argument_group("points of tracks, trails and correspondences")
    points.add_argument("--query_frame", type=whole, default=0, metavar="FRAME",
                        help="where the grid starts; default 0")
    points.add_argument("--step", type=positive, metavar="PX",
                        help="pixels between grid points; default: what gives about 600 points (200 for trails)")
    points.add_argument("--mask", metavar="FILE",
                        help="image of the video's size, not 0 on an object of the query frame: only its points are "
                             "drawn, trails are stabilised (trails also use the masks that preprocessing was given)")
    add_layer_option(points)
    points.add_argument("--tracks", metavar="FILE", help="draw these tracks (tracks.npz of track.py) instead of a grid")
    points.add_argument("--trail_length", type=positive, default=24, metavar="FRAMES",
                        help="frames that a trail goes back; default 24")
    return parser.parse_args(argv)


def chosen_kinds(text):
    """--what as a list, all kinds by default. UserError for an unknown name."""
    if text is None:
        return KINDS
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--what {kind}: expected some of {', '.join(KINDS)}, separated by commas")
    if not kinds:
        raise UserError(f"--what: nothing to draw; expected some of {', '.join(KINDS)}")
    return kinds


def drawable_kinds(source, args):
    """The kinds to draw. Those that need a model are left out of the default without one; if asked for, a UserError."""
    kinds = chosen_kinds(args.what)
    if args.what is None and source.run is None:
        print(f"no model, so no {' and no '.join(OF_MODELS)}: these need --run DIR")
        return [kind for kind in kinds if kind not in OF_MODELS]
    for kind in kinds:
        if kind in OF_MODELS:
            needs_run(source, f"--what {kind}")
    return kinds


def open_scene(source, args):
    """The Scene of a source. UserError when its data directory is not there, or is of another video."""
    if not Path(source.data_dir).exists():
        raise UserError(f"{source.data_dir}: the run's data directory is gone; name its new place with --data_dir")
    data = DataDir.open(source.data_dir)
    height, width = source.video_size
    if (data.num_frames, data.height, data.width) != (source.num_frames, *source.size):
        raise UserError(
            f"{data.path}: holds {data.num_frames} frames of {data.width}x{data.height}, but the model was fitted to "
            f"{source.num_frames} of {source.size[1]}x{source.size[0]}; name the right one with --data_dir"
        )
    if source.run:
        data.check_same_video(source.run.video)
    if height * width * args.scale**2 > MOST_PIXELS:
        raise UserError(f"--scale {args.scale}: frames of {width * args.scale}x{height * args.scale}; expected at most "
                        f"{MOST_PIXELS / 1e6:.0f} million pixels")
    check_frame(args.query_frame, data.num_frames, "--query_frame")
    folder = args.out or Path(args.run or ".") / "videos"
    make_folder(folder)
    return Scene(source, data, (height * args.scale, width * args.scale), args, folder)


# Points


def read_matching_tracks(scene, path):
    """Tracks of a file. UserError when they are of another video."""
    tracks = read_tracks(path)
    video_size, num_frames = scene.source.video_size, scene.source.num_frames
    if tracks.tracks.shape[1] != num_frames or tuple(tracks.video_size) != tuple(video_size):
        raise UserError(
            f"--tracks {path}: {tracks.tracks.shape[1]} frames of {tracks.video_size[1]}x{tracks.video_size[0]}, but "
            f"this run's video has {num_frames} of {video_size[1]}x{video_size[0]}"
        )
    return tracks


def grid_tracks(scene, num_points, mask=None):
    """Tracks of a grid on the query frame, on the mask if there is one, of about num_points or of --step."""
    video_size = scene.source.video_size
    closest = max(0.45 * np.hypot(*video_size) / np.sqrt(num_points), 6 / scene.args.scale)  # no crowd on a small mask
    step = scene.args.step or max(default_step(video_size, mask, num_points), round(closest))
    return track_queries(scene.source, grid_queries(scene.args.query_frame, step, video_size, mask))


def points_to_draw(scene, mask, num_points):
    """The tracks of --tracks, those of a grid otherwise; on the mask if there is one. UserError if none is on it."""
    if not scene.args.tracks:
        if num_points not in scene.grids:
            scene.grids[num_points] = grid_tracks(scene, num_points, mask)
        return scene.grids[num_points]
    tracks = read_matching_tracks(scene, scene.args.tracks)
    if mask is None:
        return tracks
    on_mask = starts_on(tracks, mask, scene.args.query_frame)
    if not on_mask.any():
        raise UserError(f"--mask, --layer: no point of {scene.args.tracks} is on it in frame {scene.args.query_frame}")
    return select(tracks, on_mask)


def starts_on(tracks, mask, frame):
    """(Q,) bool: which points are on the mask in `frame`."""
    positions = tracks.tracks[:, frame]
    return inside_video(positions, mask.shape) & points_on_mask(np.nan_to_num(positions), mask)


def user_mask(scene):
    """--mask or --layer at the original size, or None."""
    return object_mask(scene.args, scene.source, scene.args.query_frame)


def trail_mask(scene):
    """--mask, or the mask that the data directory has of the query frame, at the original size, or None."""
    mask = user_mask(scene)
    stored = scene.data.mask(scene.args.query_frame) if mask is None else None
    if stored is None or not stored.any() or stored.all():
        return mask
    return resize_map(stored.astype(np.float32), scene.source.video_size) > 0.5


def background_motion(scene, mask):
    """(N, 2) camera motion in pixels of the drawing, from a grid of points off the mask."""
    video_size = scene.source.video_size
    step = default_step(video_size, ~mask, NUM_POINTS["background"])
    tracks = track_queries(scene.source, grid_queries(scene.args.query_frame, step, video_size, ~mask))
    return camera_motion(scene.place(tracks.tracks), ~tracks.occluded)


# Drawings, each of which writes its files


def draw_tracks(scene):
    tracks = points_to_draw(scene, user_mask(scene), NUM_POINTS["tracks"])
    positions = scene.place(tracks.tracks)
    starts = scene.place(tracks.query_points[:, [2, 1]])
    colours, radius = draw.position_colours(starts), draw.mark_radius(scene.size, starts)
    with scene.writer("tracks") as write:
        for i in scene.each_frame("tracks"):
            image = draw.subdue(scene.frame(i))
            write(draw.draw_points(image, positions[:, i], colours, tracks.occluded[:, i], radius))


def draw_trails(scene):
    mask = trail_mask(scene)
    tracks = points_to_draw(scene, mask, NUM_POINTS["trails"])
    positions = scene.place(tracks.tracks)
    motion = np.zeros((positions.shape[1], 2)) if mask is None else background_motion(scene, mask)
    starts = scene.place(tracks.query_points[:, [2, 1]])
    colours, radius = draw.position_colours(starts), 0.8 * draw.mark_radius(scene.size, starts)
    drawable = ~tracks.occluded & np.isfinite(positions).all(axis=-1)
    with scene.writer("trails") as write:
        for i in scene.each_frame("trails"):
            past = slice(max(0, i - scene.args.trail_length), i + 1)
            history = stabilised_history(positions[:, past].transpose(1, 0, 2), motion[past], -1)
            image = draw.subdue(scene.frame(i))
            image = draw.draw_trails(image, history, drawable[:, past].T, colours, max(1, round(0.6 * radius)))
            write(draw.draw_points(image, positions[:, i], colours, tracks.occluded[:, i], radius))


def draw_correspondences(scene):
    tracks = points_to_draw(scene, user_mask(scene), NUM_POINTS["tracks"])
    start = scene.args.query_frame
    tracks = select(tracks, np.flatnonzero(~tracks.occluded[:, start]))
    if not len(tracks.tracks):
        raise UserError(f"--what correspondences: no point is visible in frame {start}; choose another --query_frame")
    positions = scene.place(tracks.tracks)
    spread = draw.spread_out(positions[:, start], NUM_POINTS["correspondences"])
    colours = draw.position_colours(positions[spread, start])
    radius = 0.006 * np.hypot(*scene.size)
    for share in DISTANCES:
        end = frame_at_distance(start, share, scene.source.num_frames)
        images = draw.subdue(scene.frame(start)), draw.subdue(scene.frame(end))
        image = draw.draw_matches(*images, positions[spread, start], positions[spread, end], colours=colours,
                                  occluded=tracks.occluded[spread, end], radius=max(1.5, radius))
        image = draw.with_label(image, f"frame {start}")
        image = draw.with_label(image, f"frame {end}", scene.size[1] + draw.GAP)
        write_image(scene.folder / f"correspondences_{share * 100:03.0f}.png", image)


def frame_at_distance(start, share, num_frames):
    """The frame `share` of the video's length after `start`; before it, or as far as there are frames, if need be."""
    distance = max(1, round(share * (num_frames - 1)))
    later, earlier = start + distance, start - distance
    if later < num_frames:
        return later
    return earlier if earlier >= 0 else max((0, num_frames - 1), key=lambda end: abs(end - start))


def draw_renderings(scene, kinds):
    """depth and color, which come from the same rendering of each frame."""
    depths = []  # half precision at the model's size: small, and the colours need the range of the whole video
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(scene.writer("color")) if "color" in kinds else None
        for i in scene.each_frame(" and ".join(kinds)):
            rendered = query.render_frame(scene.source.run.model, i, **chunk_option(scene.args.chunk))
            depths.append(rendered["depth"].cpu().numpy().astype(np.float16))
            if write:
                rgb = np.round(rendered["rgb"].cpu().numpy().clip(0, 1) * 255).astype(np.uint8)
                sides = draw.with_label(scene.frame(i), "input"), draw.with_label(scene.enlarge(rgb), "rendered")
                write(draw.side_by_side(*sides))
    if "depth" in kinds:
        near, far = np.percentile(np.stack(depths).astype(np.float32), [1, 99])
        with scene.writer("depth") as write:
            for depth in depths:
                depth = resize_map(depth.astype(np.float32), scene.size)
                write(draw.with_depth_legend(draw.depth_colours(depth, near, far)))


def draw_flow(scene):
    (height, width), (video_height, video_width) = scene.source.size, scene.source.video_size
    to_video = np.float32([video_width / width, video_height / height])
    flows = []
    for i in scene.each_frame("flow", scene.source.num_frames - 1):
        flows.append((scene.source.flow(i, i + 1)[0] * to_video).astype(np.float16))
    lengths = np.linalg.norm(np.stack(flows)[:, ::2, ::2].astype(np.float32), axis=-1)
    max_norm = max(0.5, np.percentile(lengths, 97))  # pixels; not less, so that rest does not look like motion
    with scene.writer("flow") as write:
        for flow in flows:
            colours = flow_to_color(resize_map(flow.astype(np.float32), scene.size), max_norm)
            write(draw.with_flow_legend(colours, max_norm))


@util.command
def main(argv=None):
    args = parse_arguments(argv)
    if args.tracks and args.step:
        raise UserError("--step is of a grid and --tracks replaces the grid: give one of them")
    chosen_kinds(args.what)  # a wrong name is told before anything is opened
    source = open_source(args)
    kinds = drawable_kinds(source, args)
    scene = open_scene(source, args)
    height, width = scene.size
    if min(height, width) < SMALL:
        print(f"{width}x{height} is small: --scale {args.scale * round(2 * SMALL / min(height, width))} draws finer")
    of_points = {"tracks": draw_tracks, "trails": draw_trails, "correspondences": draw_correspondences}
    for kind, drawing in of_points.items():
        if kind in kinds:
            drawing(scene)
    if set(OF_MODELS) & set(kinds):
        draw_renderings(scene, [kind for kind in OF_MODELS if kind in kinds])
    if "flow" in kinds:
        draw_flow(scene)
    print(f"{scene.folder}: {', '.join(kinds)}")


if __name__ == "__main__":
    main()
