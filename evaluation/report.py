"""Tables, files and plots of evaluated figures.

Results are {video: {method: {figure: value}}}. Percentages are out of 100, TC and hidden_median in pixels at 256 x 256.
The figure `by` is a dict of the figures of parts of the positions: {time: {bin: {figure: value}}, object: ...}.
"""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np

from evaluation.metrics import HIDDEN, RESOLUTION, SUMMARY, THRESHOLDS, mean_metrics
from util import UserError, atomic_path

COLUMNS = (*SUMMARY, "AJ_RD", *HIDDEN, "PCK", "delta_3px", "J", "F", "J&F")
PART_COLUMNS = (*SUMMARY[:3], *HIDDEN)
TITLES = {"delta_avg": "<delta_avg", "hidden_median": "hidden median px", "hidden_over_4": "hidden >4 px"}
DECIMALS = {"TC": 2, "hidden_median": 2}
UNITS = "percent; TC and hidden_median in pixels"
FORMATS = (".md", ".csv", ".json")
SMALLEST_ERROR = 0.01  # pixels: the lower end of logarithmic axes


def by_method(results):
    """{method: [figures of each video]}, methods in the order of their first appearance."""
    methods = dict.fromkeys(method for video in results.values() for method in video)
    return {method: [video[method] for video in results.values() if method in video] for method in methods}


def means(results):
    """{method: mean figures over the videos that have it}."""
    return {method: mean_metrics(videos) for method, videos in by_method(results).items()}


def format_value(name, value):
    return "nan" if value is None or math.isnan(value) else f"{value:.{DECIMALS.get(name, 1)}f}"


def markdown_table(header, rows):
    """A markdown table whose columns line up in a terminal too."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def results_table(results):
    """Markdown: a row per video and method, and the means over several videos."""
    used = {name for video in results.values() for figures in video.values() for name in figures}
    columns = [name for name in COLUMNS if name in used]
    rows = [
        [video, method, *(format_value(name, figures.get(name)) for name in columns)]
        for video, methods in results.items()
        for method, figures in methods.items()
    ]
    if len(results) > 1:
        for method, figures in means(results).items():
            count = len(by_method(results)[method])
            label = "mean" if count == len(results) else f"mean of {count}"
            rows.append([label, method, *(format_value(name, figures.get(name)) for name in columns)])
    return markdown_table(["video", "method", *(TITLES.get(name, name) for name in columns)], rows)


def parts_table(results, kind):
    """Markdown: a row per part of the positions ('time' or 'object') and method, means over the videos that have it."""
    groups = {}
    for method, videos in by_method(results).items():
        for figures in videos:
            for part, values in figures.get("by", {}).get(kind, {}).items():
                groups.setdefault(part, {}).setdefault(method, []).append(values)
    used = {name for methods in groups.values() for videos in methods.values() for part in videos for name in part}
    columns = [name for name in PART_COLUMNS if name in used]
    rows = []
    for part, methods in groups.items():
        for method, videos in methods.items():
            mean, points = mean_metrics(videos), sum(video["points"] for video in videos)
            rows.append([part, method, points, *(format_value(name, mean.get(name)) for name in columns)])
    titles = [TITLES.get(name, name) for name in columns]
    return markdown_table([{"time": "frames from the query"}.get(kind, kind), "method", "positions", *titles], rows)


def without_nan(value):
    """The same value with None for nan, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(results, query_mode):
    content = {
        "query_mode": query_mode,
        "resolution": RESOLUTION,
        "thresholds": list(THRESHOLDS),
        "units": f"{UNITS} at the resolution",
        "videos": results,
        "mean": means(results),
    }
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(results):
    """A row per video and method, and the means, with every figure."""
    rows = [*results.items(), ("mean", means(results))]
    every = [figures for _, methods in rows for figures in methods.values()]
    names = dict.fromkeys(name for figures in every for name, value in figures.items() if not isinstance(value, dict))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "method", *names])
    for video, methods in rows:
        for method, figures in methods.items():
            writer.writerow([video, method, *(figures.get(name, "") for name in names)])
    return text.getvalue()


def check_format(path):
    """UserError unless the ending says what to write."""
    if path is not None and Path(path).suffix not in FORMATS:
        raise UserError(f"--out {path}: expected a file ending in {', '.join(FORMATS)}")


def write_results(path, results, query_mode):
    """Write the results as .md, .csv or .json, whole or not at all."""
    texts = {
        ".md": lambda: f"Query mode: {query_mode}. {UNITS.capitalize()} at 256 x 256.\n\n{results_table(results)}\n",
        ".csv": lambda: as_csv(results),
        ".json": lambda: as_json(results, query_mode),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(texts[Path(path).suffix](), encoding="utf-8")


# ---------------------------------------------------------------- plots


def new_axes(**options):
    """A figure and its axes, drawn without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(**options)
    axes.grid(alpha=0.3)
    return figure, axes


def save_figure(figure, path):
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def plot_thresholds(path, results):
    """Share of visible points within each threshold, a line per method (mean over the videos)."""
    figure, axes = new_axes(xlabel="threshold (pixels at 256 x 256)", ylabel="visible points closer (%)", xscale="log")
    for method, figures in means(results).items():
        if "delta_1" in figures:
            axes.plot(THRESHOLDS, [figures[f"delta_{t}"] for t in THRESHOLDS], marker="o", label=method)
    axes.set_xticks(THRESHOLDS, [str(t) for t in THRESHOLDS])
    axes.set_ylim(0, 100)
    axes.legend()
    save_figure(figure, path)


def plot_errors(path, errors, bins=12):
    """Median error against the distance in frames from the query. errors: {method: [(errors, distances), ...]}."""
    figure, axes = new_axes(
        xlabel="frames from the query", ylabel="median error (pixels at 256 x 256)", yscale="log"
    )
    for method, parts in errors.items():
        values, distances = (np.concatenate(arrays) for arrays in zip(*parts))
        if not len(values):
            continue
        edges = np.unique(np.linspace(1, distances.max() + 1, bins + 1).round())
        groups = [values[(distances >= low) & (distances < high)] for low, high in zip(edges, edges[1:])]
        centres = (edges[:-1] + edges[1:] - 1) / 2
        medians = [max(np.median(group), SMALLEST_ERROR) if len(group) else np.nan for group in groups]
        axes.plot(centres, medians, marker=".", label=method)
    axes.legend()
    save_figure(figure, path)


def plot_occlusion(path, curves, thresholds):
    """Precision and recall of `occluded`, and OA, against the threshold. curves: {method: occlusion_curve}."""
    figure, axes = new_axes(xlabel="threshold of the occlusion score", ylabel="%")
    for number, (method, curve) in enumerate(curves.items()):
        for name, style in (("precision", "--"), ("recall", ":"), ("OA", "-")):
            axes.plot(thresholds, curve[name], style, color=f"C{number}", label=f"{method}: {name}")
    axes.legend()
    save_figure(figure, path)
