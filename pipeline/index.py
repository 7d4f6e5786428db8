"""results/index.html: a row for each video, of its thumbnail, state, figures and links. Pure: statuses in, text out."""

import html
import time
from pathlib import Path
from urllib.parse import quote

FIGURES = ("AJ", "delta_avg", "OA", "TC", "PCK", "J&F")
LINKS = (("page.html", "page"), ("videos", "videos"), ("tracks.npz", "tracks"), ("exports", "exports"),
         ("log.txt", "log"))
STYLE = """body{font:15px system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.35em .7em;text-align:left;border-bottom:1px solid #ddd}
img{max-width:120px;max-height:80px;display:block}.failed{color:#b00020}.running{color:#0057b8}.done{color:#1b6e1b}
.waiting{color:#777}td.number{text-align:right;font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}td,th{border-color:#444}a{color:#8ab4f8}
.failed{color:#ff8a80}.running{color:#8ab4f8}.done{color:#81c995}}"""


def page(statuses, folder, refresh=None):
    """HTML of {name: status}; links to what there is in `folder`. refresh: seconds after which it loads again."""
    used = [name for name in FIGURES if any(name in status.get("figures", {}) for status in statuses.values())]
    counts = count_states(statuses)
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    header = ["", "video", "state", "time", *used, ""]
    rows = "\n".join(row(name, status, Path(folder), used) for name, status in statuses.items())
    reload = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{summary}</title>{reload}'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
            f"<h1>{len(statuses)} videos</h1><p>{summary}</p><table><thead><tr>"
            + "".join(f"<th>{title}</th>" for title in header) + f"</tr></thead><tbody>\n{rows}\n</tbody></table>"
            "</body></html>\n")


def count_states(statuses):
    """{state: how many}, in the order that a reader wants them."""
    states = [status["state"] for status in statuses.values()]
    return {state: states.count(state) for state in ("failed", "running", "waiting", "done")}


def row(name, status, folder, used):
    def link(file, text):
        return f'<a href="{quote(f"{name}/{file}")}">{text}</a>'

    there = {file for file in ("thumbnail.jpg", *dict(LINKS)) if (folder / name / file).exists()}
    picture = f'<img src="{quote(name)}/thumbnail.jpg" alt="" loading="lazy">' if "thumbnail.jpg" in there else ""
    figures = status.get("figures", {})
    numbers = [f"{figures[key]:.2f}" if figures.get(key) is not None else "" for key in used]
    cells = [picture, html.escape(name), f'<span class="{status["state"]}">{html.escape(words(status))}</span>']
    links = " ".join(link(file, text) for file, text in LINKS if file in there)
    cells = [f"<td>{cell}</td>" for cell in cells]
    cells += [f'<td class="number">{text}</td>' for text in (seconds(status), *numbers)]
    return f"<tr>{''.join(cells)}<td>{links}</td></tr>"


def words(status, now=None):
    """A status in a few words."""
    if status["state"] == "failed":
        return f"failed: {status.get('reason', '')}"
    if status["state"] == "running":
        since = max(0, (now or time.time()) - status.get("since", 0))
        return f"{status.get('stage')} for {duration(since)} on {status.get('node')}"
    return status["state"]


def seconds(status):
    """Of all stages that are done, for people."""
    total = sum(stage.get("seconds", 0) for stage in status["stages"].values())
    return duration(total) if total else ""


def duration(count):
    minutes, rest = divmod(round(count), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
