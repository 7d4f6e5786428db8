"""The first stage: lock the data directory, and bring the video's frames and masks into it."""

import contextlib
import itertools
from dataclasses import asdict
from pathlib import Path

from files import UserError, locked_folder
from loaders.data_dir import DataDir
from preprocess.frames import extract_frames, files_fingerprint, list_images, staged_folder, write_masks
from preprocess.report import changes
from preprocess.stages import FOLDERS
from preprocess.verify import damaged_images


@contextlib.contextmanager
def locked(path):
    """Hold the data directory for this process; make it when there is none, and unmake it when nothing came of it.

    UserError: it is a file, holds something else, or is in use by another preprocessing.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"--data_dir {path}: a file; expected a new folder or an earlier data directory")
    if path.exists() and not (path / "manifest.json").exists():
        for file in path.iterdir():
            if not (file.name.startswith(".") and ".tmp" in file.name):  # what an interrupted start leaves
                raise UserError(
                    f"--data_dir {path}: holds other files ({file.name}); expected a new folder or a data directory"
                )
    with locked_folder(path):
        yield path


def prepare_frames(path, source, options, masks, overwrite, bar):
    """The data directory with its frames and masks in place, read again when the options ask for others."""
    data = open_existing(path, overwrite)
    content = source.fingerprint()
    if data is not None and data.manifest["video"].get("source_fingerprint") != content:
        if not overwrite:
            raise UserError(
                f"--data_dir {path}: made from another video ({data.manifest['video'].get('source') or data.name}); "
                "choose another folder, or give --overwrite to replace it"
            )
        data = None
    wanted = asdict(options)
    earlier = data.manifest["settings"].get("frames") if data else None
    if earlier == wanted and sound_frames(data, source, options, bar):
        refresh_masks(data, masks, options, bar)
        return data
    if earlier not in (None, wanted):
        bar.write(f"frames: done again ({changes(earlier, wanted)}), and all stages after")
    return new_frames(path, source, options, masks, content=content, bar=bar)


def sound_frames(data, source, options, bar):
    """Whether the frames are what they were, those that are missing or damaged made again from the video."""
    found = damaged_images(data)
    for folder, _, error in found:
        bar.write(f"{error}: now")
        if folder != "color":
            data.manifest["settings"][folder] = "damaged"  # refresh_masks, or refresh_depth, writes them again
    if not any(folder == "color" for folder, *_ in found):
        return True
    with staged_folder(data.path / "color") as staged:
        return extract_frames(source, staged, options, bar.frames)["fingerprint"] == data.fingerprint


def open_existing(path, overwrite):
    """The data directory that is there, perhaps unfinished, or None; also None to overwrite an unreadable one."""
    if not (path / "manifest.json").exists():
        return None
    try:
        return DataDir.open(path, unfinished=True)
    except UserError:
        if overwrite:
            return None
        raise


def new_frames(path, source, options, masks, content, bar):
    """Decode the video into the data directory. What is there stays until the new frames and masks are complete."""
    with contextlib.ExitStack() as stack:
        color = stack.enter_context(staged_folder(path / "color"))
        video = extract_frames(source, color, options, bar.frames)
        video.update(source_fingerprint=content, has_masks=masks is not None)
        if masks is not None:
            write_masks(masks, stack.enter_context(staged_folder(path / "masks")), options, video)
        data = DataDir.create(path, video)  # without settings: interrupted from here on, the frames are read again
        for folder in ("masks", "depth", *itertools.chain(*FOLDERS.values())):
            data.remove(folder)
    data.manifest["settings"] = {"frames": asdict(options), "masks": masks_fingerprint(masks)}
    data.manifest.update(finished=["frames"], checksums=True)
    data.save_manifest()
    return data


def refresh_masks(data, masks, options, bar):
    """Write the masks again when they are others than before; nothing else depends on them."""
    wanted = masks_fingerprint(masks)
    if data.manifest["settings"].get("masks") == wanted:
        return
    bar.write("masks: " + ("removed" if masks is None else "written again"))
    if masks is not None:
        with staged_folder(data.path / "masks") as staged:
            write_masks(masks, staged, options, data.manifest["video"])
    data.manifest["video"]["has_masks"] = masks is not None
    data.manifest["settings"]["masks"] = wanted
    data.save_manifest()
    if masks is None:
        data.remove("masks")


def masks_fingerprint(masks):
    """Identifies the content of a folder of masks; None without one."""
    return files_fingerprint(list_images(masks)) if masks is not None and Path(masks).is_dir() else masks and str(masks)
