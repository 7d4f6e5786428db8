"""Fusion and DaVinci Resolve's Fusion page: a Tracker tool, its text to be pasted into the flow or saved as .setting.

Positions are shares of width and height with y up, from the lower left corner; frames are the composition's, mostly
from 0. Each point's TrackedCenter is driven by an XYPath of two splines. Hidden positions have no key, and Fusion goes
straight on between keys.
"""

import numpy as np

from exports.options import number, unit, written


def write(tracks, options):
    """Tracks -> the text of a Tracker tool."""
    keys, positions = written(tracks, options), unit(tracks)
    patterns, inputs, paths = [], [], []
    for q, name in enumerate(options.names):
        frames, path = np.flatnonzero(keys[q]), f"Tracker1Path{q + 1}"
        x, y = (spline(frames + options.first_frame, values) for values in positions[q, frames].T)
        first, (start_x, start_y) = frames[0] + options.first_frame, map(decimal, positions[q, frames[0]])
        patterns.append(f"{{ PatternTime = {first}, PatternX = {start_x}, PatternY = {start_y} }},")
        inputs.append(f'Name{q + 1} = Input {{ Value = "{name}", }},')
        inputs.append(f"TrackedCenter{q + 1} = {connected(path)}")
        paths.append(f'{path} = XYPath {{ ShowKeyPoints = false, DrawMode = "ModifyOnly", Inputs = {{\n'
                     f"   X = {connected(path + 'X')}\n   Y = {connected(path + 'Y')}\n  }}, }},")
        paths += [f"{path}X = {x}", f"{path}Y = {y}"]
    inside, outside = "\n    ", "\n  "
    return (f"{{ Tools = ordered() {{{outside}Tracker1 = Tracker {{\n"
            f"   Trackers = {{{inside}{inside.join(patterns)}\n   }},\n"
            f"   Inputs = {{{inside}{inside.join(inputs)}\n   }},\n  }},{outside}{outside.join(paths)}\n}} }}\n")


def connected(source):
    return f'Input {{ SourceOp = "{source}", Source = "Value", }},'


def spline(frames, values):
    """A curve that is straight between its keys."""
    keys = ", ".join(f"[{frame}] = {{ {decimal(value)}, Flags = {{ Linear = true }} }}"
                     for frame, value in zip(frames, values))
    return f"BezierSpline {{ KeyFrames = {{ {keys} }} }},"


def decimal(share):
    return number(share, 10)
