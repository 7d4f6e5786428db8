"""Coloured point clouds as binary PLY, which MeshLab, CloudCompare, Blender and Open3D read."""

import numpy as np

from util import atomic_path

VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("weight", "<f4")]
)


def write_ply(path, points, rgb, weight):
    """Write points (M, 3) with colours rgb (M, 3) in [0, 1] and a weight (M,) each."""
    vertices = np.empty(len(points), VERTEX)
    for axis, name in enumerate("xyz"):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = np.round(np.clip(rgb[:, channel], 0, 1) * 255)
    vertices["weight"] = weight
    properties = [f"property {'uchar' if VERTEX[name] == np.uint8 else 'float'} {name}" for name in VERTEX.names]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties, "end_header"]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
