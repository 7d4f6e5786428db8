"""Is everything that a data directory holds as it was written? And making again what is not."""

import shutil

from files import UserError
from loaders.data_dir import CHAINED, DIRECT, DataDir


def damaged_images(data):
    """(folder, frame, what is wrong) of every frame, mask and map of depth that is missing or damaged."""
    found = []
    for folder, read in {"color": data.frame, "masks": data.mask, "depth": data.depth}.items():
        for i in range(data.num_frames):
            try:
                read(i)
            except UserError as error:
                found.append((folder, i, error))
    return found


def damaged_arrays(data, folders):
    """(folder, frame, what is wrong) of every array of these folders that is there and damaged."""
    found = []
    for folder in folders:
        for i in range(data.num_frames):
            try:
                if data.has(folder, i):
                    data.array(folder, i)
            except UserError as error:
                found.append((folder, i, error))
    return found


def remove_damaged(data, folders, bar):
    """Delete the damaged arrays of these folders, and say so: the stages make again what is missing."""
    for folder, i, error in damaged_arrays(data, folders):
        bar.write(f"{error}: now")
        path = data.path / folder / f"{i:05d}.npy"
        if path.is_dir():
            shutil.rmtree(path)
        data.remove(folder, i)
    for folder in folders:
        if (data.path / folder).is_file():
            (data.path / folder).unlink()


def verify(path):
    """Check every file of a finished data directory; print those that are missing or damaged. UserError: there are."""
    data = DataDir.open(path)
    folders = [*(CHAINED if data.chained else DIRECT), "counts"]
    folders += ["layers"] if "layers" in data.manifest["settings"].get("filter", {}) else []
    kept = [folder for folder in DIRECT if data.chained and (data.path / folder).exists()]
    found = damaged_images(data) + damaged_arrays(data, folders + kept)
    wrong = [str(error) for *_, error in found]
    wrong += [f"{data.path / folder / f'{i:05d}.npy'}: missing" for folder in folders for i in range(data.num_frames)
              if not data.has(folder, i)]
    try:
        if not wrong:
            data.frames()
    except UserError as error:  # each is a frame, but of another video
        wrong.append(str(error))
    print("\n".join(wrong), end="\n" if wrong else "")
    if wrong:
        raise UserError(f"{data.path}: {len(wrong)} missing or damaged; the same preprocess command as before makes "
                        "again just that")
    sums = "" if data.manifest.get("checksums") else " (made before there were checksums: only their form was checked)"
    print(f"{data.path}: all files are sound{sums}")
