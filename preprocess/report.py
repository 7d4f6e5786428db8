"""What the user sees: messages, progress bars, settings and sizes in words."""

import contextlib

from tqdm import tqdm


class Progress:
    """Messages on stdout, bars on stderr; neither when quiet."""

    def __init__(self, quiet):
        self.quiet = quiet

    def write(self, message):
        if not self.quiet:
            print(message, flush=True)

    def frames(self, frames):
        """Iterate with a bar of unknown length."""
        return tqdm(frames, desc="frames", unit=" frames", disable=self.quiet)

    @contextlib.contextmanager
    def steps(self, stage, count, unit="frames"):
        """A bar over so many frames, or others; yields its update function."""
        with tqdm(total=count, desc=stage, unit=f" {unit}", disable=self.quiet or not count) as bar:
            yield bar.update

    @contextlib.contextmanager
    def pairs(self, stage, data, todo):
        """A bar over all pairs, of which those not starting in `todo` are done; yields its update function."""
        total = sum(map(len, data.manifest["partners"]))
        done = total - sum(len(data.partners(i)) for i in todo)
        with tqdm(total=total, initial=done, desc=stage, unit=" pairs", disable=self.quiet or not todo) as bar:
            yield bar.update


QUIET = Progress(quiet=True)


def changes(old, new):
    """The differing settings of a stage in words."""
    words = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            words.append(f"{key}: {changes(before, after)}")
        else:
            words.append(f"{key} was {brief(before)}, now {brief(after)}")
    return "; ".join(words)


def brief(value):
    """A setting in a few words."""
    return "unset" if value is None else str(value)[:40]


def gigabytes(count):
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB" if count > 1e8 else f"{count / 1e6:.1f} MB"
