"""What the user sees while it runs: a bar over all videos and a line for each that runs; and index.html."""

import sys
import threading
from pathlib import Path

from tqdm import tqdm

from pipeline import index, status
from util import atomic_path

EVERY = 2.0  # seconds between looks at the statuses
MOST_LINES = 8  # videos that get a line
RELOAD = 5  # seconds after which the page loads itself again


class Board:
    """Watches the status files of these videos from a thread of its own; settled() tells it that one has ended."""

    def __init__(self, out, names):
        self.out, self.open, self.failed = Path(out), dict.fromkeys(names), {}
        self.statuses = {name: status.read(self.out / name) for name in names}
        self.page, self.lines, self.lock, self.over = None, [], threading.RLock(), threading.Event()

    def __enter__(self):
        self.bar = tqdm(total=len(self.statuses), desc="videos", unit="video", file=sys.stderr)
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        for line in reversed(self.lines):
            line.close()
        self.bar.close()
        for name in list(self.open):
            self.statuses[name] = status.read(self.out / name)
        self.write_page(None)

    def watch(self):
        while not self.over.wait(EVERY):
            self.refresh()

    def refresh(self):
        with self.lock:
            for name in self.open:
                self.statuses[name] = status.read(self.out / name)
            self.show_lines()
            self.write_page(RELOAD)

    def settled(self, name, reason):
        """A video has ended: reason None, or one line."""
        with self.lock:
            self.open.pop(name, None)
            self.statuses[name] = status.read(self.out / name)
            if reason is not None:
                self.failed[name] = reason
                self.bar.write(f"failed: {name}: {reason}", file=sys.stderr)
            self.bar.update()

    def show_lines(self):
        """A line for each video that runs, where there is a terminal to draw them on."""
        if self.bar.disable or not sys.stderr.isatty():
            return
        running = [name for name in self.open if self.statuses[name]["state"] == "running"][:MOST_LINES]
        while len(self.lines) < len(running):
            self.lines.append(tqdm(bar_format="{desc}", position=len(self.lines) + 1, leave=False, file=sys.stderr))
        for k, line in enumerate(self.lines):
            name = running[k] if k < len(running) else None
            line.set_description_str(f"  {name}: {index.words(self.statuses[name])}" if name else "")

    def write_page(self, refresh):
        """index.html, when anything in it has changed."""
        content = index.page(self.statuses, self.out, refresh)
        if content != self.page:
            with atomic_path(self.out / "index.html") as temporary:
                temporary.write_text(content, encoding="utf-8")
            self.page = content
