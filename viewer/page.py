"""The files of the page: the same ones served live and put into one saved file.

page.html names its style sheet and scripts by <link> and <script src>; in a saved page their text stands there instead.
"""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent
SCRIPTS = ("data.js", "drawing.js", "page.js", "points.js", "fitting.js", "controls.js")
FILES = {"page.css": "text/css", **dict.fromkeys(SCRIPTS, "text/javascript")}
ALONE = ("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data: blob:; "
         "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">")  # a saved page asks nothing of anyone


def page(name="page.html"):
    """The text of one of the files."""
    return (FOLDER / name).read_text(encoding="utf-8")


def self_contained(data):
    """The page as one text, with all that it shows: JSON `data` (see viewer.save)."""
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no tag may end the script
    html = page().replace("<!-- saved -->", f'{ALONE}\n<script type="application/json" id="saved">{embedded}</script>')
    html = re.sub(r'<link rel="stylesheet" href="/(\w+\.css)">', lambda m: f"<style>\n{page(m[1])}</style>", html)
    return re.sub(r'<script src="/(\w+\.js)"></script>', lambda m: f"<script>\n{page(m[1])}</script>", html)
