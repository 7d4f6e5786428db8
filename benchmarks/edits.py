"""What edits are worth: python -m benchmarks.edits --scenes occlusion camera --davis DIR/dog --out runs/edits.md

Scenes with exact truth, and clips of DAVIS with their masks, are preprocessed with DIS and edited by tracks of the
stored flow; beside that the same edits by adjacent flow chained, and by what needs no tracks at all. On scenes, mask,
paint and stabilise start on frame 0; frames in between are those that were left out. Errors in pixels of the frames.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.scenes import make_scene
from edits import between, clean, mask, paint, stabilise
from edits.clip import Clip, open_clip
from edits.files import read_labels
from edits.warping import fetch, look_up
from evaluation.baselines import CYCLE_THRESHOLD, baseline_tracks
from evaluation.masks import boundary_f, region_j
from evaluation.report import markdown_table
from flow.images import luminance, pixel_grid
from flow.rims import rim_radius
from loaders.data_dir import write_image
from preprocess import build
from tracking.sources import FlowSource
from util import atomic_path, command


class ChainedSource(FlowSource):
    """A source of motion that only adds up adjacent flow; hidden where a step does not come back."""

    def track(self, frames, pixels):
        tracks, occluded = baseline_tracks("chained", self.data.flow, self.num_frames, frames, pixels, CYCLE_THRESHOLD)
        return tracks, occluded.astype(np.float32), np.full(occluded.shape, np.nan, np.float32)

    def flow(self, i, j):
        pixels = pixel_grid(tuple(self.size)).reshape(-1, 2)
        tracks, score, _ = self.track(np.full(len(pixels), i), pixels)
        return (tracks[:, j] - pixels).reshape(*self.size, 2), score[:, j].reshape(self.size)


# ---------------------------------------------------------------- what is measured


def psnr(image, truth, where=None):
    """Decibels between uint8 images (H, W, 3), where a mask (H, W) is set."""
    error = np.square(image.astype(float) - truth).mean(-1)
    return 10 * np.log10(255**2 / max(error[np.ones_like(error, bool) if where is None else where].mean(), 1e-9))


def ssim(image, truth):
    """Structural similarity of the luminance (Wang et al. 2004): windows of a Gaussian of 1.5 pixels."""
    x, y = (luminance(frame).astype(np.float64) for frame in (image, truth))

    def mean(values):
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mean_x, mean_y, c1, c2 = mean(x), mean(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    var_x, var_y, cov = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    index = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(index[5:-5, 5:-5].mean())


def mask_scores(labels, truths):
    """{"J": percent, "F": percent}, means over all frames but the first and the last, as DAVIS has it."""
    frames = range(1, len(truths) - 1)
    return {"J": np.mean([region_j(truths[k], labels[k] > 0) for k in frames]),
            "F": np.mean([boundary_f(truths[k], labels[k] > 0) for k in frames])}


def paint_scores(clip, scene):
    """A round sticker on the largest object of frame 0: how well it covers its true place, and how far off it is."""
    layers = scene.layer_map(0)
    objects = [k for k, layer in enumerate(scene.layers) if layer.foreground]
    largest = max(objects, key=lambda k: (layers == k).sum())
    depth = cv2.distanceTransform((layers == largest).astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    sticker = np.zeros((*layers.shape, 4), np.uint8)
    cv2.circle(sticker, (int(column), int(row)), max(2, round(0.8 * depth.max())), (255, 0, 0, 255), -1)
    layer = paint.premultiplied(sticker)
    overlaps, distances = [], []
    for k in range(1, len(clip)):
        true_flow, seen = scene.flow(k, 0)
        truth = (look_up(layer, pixel_grid(seen.shape) + true_flow)[..., 3] > 0.5) & seen
        flow, visible = clip.flow(k, 0)
        overlaps.append(region_j(truth, paint.carried_layer(layer, flow, visible, clip.frames[k])[..., 3] > 0.5))
        distances.append(np.linalg.norm(flow - true_flow, axis=-1)[truth])
    return {"IoU": np.mean(overlaps), "px": np.median(np.concatenate(distances))}


def stabilise_scores(clip, scene, model):
    """How far the largest object's points are from where they are held: median px, and where nothing is done."""
    layers = scene.layer_map(0)
    objects = [k for k, layer in enumerate(scene.layers) if layer.foreground]
    surface = layers == max(objects, key=lambda k: (layers == k).sum())
    pixels = np.argwhere(cv2.erode(surface.astype(np.uint8), np.ones((3, 3))) > 0)[::7, ::-1].astype(np.float32)
    tracks, score, _ = clip.source.track(np.zeros(len(pixels), int), pixels)
    found = stabilise.motions(model, tracks, score <= clip.source.threshold, 0, clip.size)
    truth, seen = scene.tracks(0, pixels)
    held = np.stack([stabilise.move(found, k, pixels.astype(float)) for k in range(len(clip))], axis=1)
    left, before = (np.linalg.norm(places - truth, axis=-1)[:, 1:][seen[:, 1:]] for places in (held, pixels[:, None]))
    return {"px": np.median(left), "px before": np.median(before)}


def clean_scores(clip, scene, step=4):
    """PSNR under the mask against the scene without its objects; share of it that was seen; every step-th frame."""
    empty = replace(scene, layers=[layer for layer in scene.layers if not layer.foreground], _cache={})
    masks = np.stack([clean.grown(scene.mask(k), rim_radius(clip.size)) for k in range(len(clip))])
    errors, seen, guess = [], [], []
    for k in range(0, len(clip), step):
        image, origin = clean.clean_frame(clip.frames, masks, clip.flow, k)
        whole = clean.inpainted(image, origin)
        none = cv2.inpaint(clip.frames[k], masks[k].astype(np.uint8), 3, cv2.INPAINT_TELEA)
        errors.append(psnr(whole, empty.frame(k), masks[k]))
        guess.append(psnr(none, empty.frame(k), masks[k]))
        seen.append((origin[masks[k]] != clean.NEVER).mean())
    return {"PSNR": np.mean(errors), "seen": 100 * np.mean(seen), "inpainting alone": np.mean(guess)}


def by_dis(first, second):
    """The frame half-way as OpenCV's DIS flow of the two frames gives it: both looked up along it, and averaged."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(luminance(first), luminance(second), None)
    grid = pixel_grid(flow.shape[:2])
    return cv2.addWeighted(fetch(first, grid - flow / 2), 0.5, fetch(second, grid + flow / 2), 0.5, 0)


def between_scores(clip, left_out):
    """{method: (PSNR, SSIM)} of frames left_out between each two of the clip's."""
    makers = {
        "tracks": lambda k, a, b: between.frame_between(0.5, a, b, clip.flow(k, k + 1), clip.flow(k + 1, k)),
        "OpenCV's DIS": lambda _k, a, b: by_dis(a, b),
        "average": lambda _k, a, b: cv2.addWeighted(a, 0.5, b, 0.5, 0),
    }
    scores = {}
    for name, make in makers.items():
        images = [make(k, clip.frames[k], clip.frames[k + 1]) for k in range(len(clip) - 1)]
        scores[name] = tuple(np.mean([measure(image, truth) for image, truth in zip(images, left_out)])
                             for measure in (psnr, ssim))
    return scores


# ---------------------------------------------------------------- the table


def clips_of(data):
    """{name: Clip} by tracks and by chains."""
    tracked = open_clip(FlowSource(data))
    return {"tracks": tracked, "chained": Clip(ChainedSource(data), tracked.frames)}


def scene_rows(kind, options):
    scene = make_scene(kind, options.seed, options.num_frames, options.height, options.width)
    folder = options.work / f"{scene.name}-{options.width}x{options.height}-{options.num_frames}"
    data = build(scene.video, folder / "data", flow="dis", workers=1, quiet=True)
    truths = np.stack([scene.mask(k) for k in range(options.num_frames)])
    for name, clip in clips_of(data).items():
        found = mask_scores(mask.carry_labels(clip.frames, clip.flow, truths[0].astype(np.uint8), 0), truths)
        yield kind, "mask", name, f"J {found['J']:.1f}, F {found['F']:.1f}"
        found = paint_scores(clip, scene)
        yield kind, "paint", name, f"IoU {found['IoU']:.1f}, {found['px']:.2f} px"
        for model in ("similarity", "warp"):
            found = stabilise_scores(clip, scene, model)
            yield kind, f"stabilise, {model}", name, f"{found['px']:.2f} px of {found['px before']:.1f}"
        found = clean_scores(clip, scene)
        yield kind, "clean", name, f"{found['PSNR']:.1f} dB, {found['seen']:.0f} % seen"
    yield kind, "clean", "inpainting alone", f"{found['inpainting alone']:.1f} dB"
    half = build(scene.video[::2], folder / "half", flow="dis", max_interval=1, workers=1, quiet=True)
    for name, (decibels, similarity) in between_scores(open_clip(FlowSource(half)), scene.video[1::2]).items():
        yield kind, "between", name, f"{decibels:.1f} dB, SSIM {similarity:.3f}"


def davis_rows(folder, options):
    files, images = sorted((folder / "masks").glob("*.png")), sorted((folder / "frames").glob("*"))
    frames = [cv2.imread(str(path))[..., ::-1] for path in images[: options.num_frames]]
    work = options.work / f"{folder.name}-{options.max_side}-{options.num_frames}"
    for name, step in (("frames", 1), ("half", 2)):
        for k, frame in enumerate(frames[::step]):
            if not (work / f"{name}/{k:05d}.png").exists():
                write_image(work / f"{name}/{k:05d}.png", frame)
    shared = {"flow": "dis", "max_side": options.max_side, "workers": 1, "quiet": True}
    data = build(work / "frames", work / "data", **shared)
    truths = np.stack([read_labels("mask", path, frames[0].shape[:2]) > 0 for path in files[: options.num_frames]])
    for name, clip in clips_of(data).items():
        found = mask_scores(mask.carry_labels(clip.frames, clip.flow, truths[0].astype(np.uint8), 0), truths)
        yield folder.name, "mask", name, f"J {found['J']:.1f}, F {found['F']:.1f}"
    still = mask_scores(np.repeat(truths[:1], len(truths), axis=0), truths)
    yield folder.name, "mask", "not moved", f"J {still['J']:.1f}, F {still['F']:.1f}"
    half = open_clip(FlowSource(build(work / "half", work / "half-data", max_interval=1, **shared)))
    for name, (decibels, similarity) in between_scores(half, frames[1::2]).items():
        yield folder.name, "between", name, f"{decibels:.1f} dB, SSIM {similarity:.3f}"


@command
def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edits", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scenes", nargs="*", default=["occlusion", "camera"], metavar="KIND")
    add("--davis", nargs="*", type=Path, default=[], metavar="DIR", help="clips with frames/ and masks/")
    add("--seed", type=int, default=0)
    add("--num_frames", type=int, default=12)
    add("--height", type=int, default=96, help="of scenes (default: %(default)s)")
    add("--width", type=int, default=128)
    add("--max_side", type=int, default=192, help="what clips are preprocessed at (default: %(default)s)")
    add("--work", type=Path, default=Path("runs/edits"), help="folder for frames and flow; what is there is kept")
    add("--out", type=Path, help="write the table, Markdown; it is printed in any case")
    options = parser.parse_args(arguments)
    rows = []
    sources = [scene_rows(kind, options) for kind in options.scenes] + [davis_rows(d, options) for d in options.davis]
    for source in sources:
        for row in source:
            print(" | ".join(row), flush=True)
            rows.append(row)
    table = markdown_table(["clip", "edit", "by", "result"], rows)
    if options.out:
        with atomic_path(options.out) as path:
            path.write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
