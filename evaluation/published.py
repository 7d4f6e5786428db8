"""Figures that others published, to stand below one's own: of their papers, not measured here.

Percent, on TAP-Vid; each with the query mode and, where its source states it, the size of the input (H x W), without
which figures of trackers cannot be compared. What a source does not state is left out, not guessed.
"""

from typing import NamedTuple

from evaluation.report import markdown_table


class Published(NamedTuple):
    """A row of a table in a paper."""

    method: str
    query_mode: str
    AJ: float
    delta_avg: float | None
    OA: float | None
    input_size: str  # '' where the source is not known to state it
    source: str


DAVIS = [
    Published("OmniMotion", "strided", 51.7, 67.5, 85.3, "", "arXiv 2306.05422"),
    Published("MFT", "strided", 56.1, 70.8, 86.9, "", "its paper"),
    Published("CaDeX++", "strided", 59.4, 77.4, 85.9, "", "arXiv 2403.17931"),
    Published("DINO-Tracker", "strided", 62.3, 78.2, 87.5, "", "its paper"),
    Published("ProTracker", "strided", 65.3, 80.8, 88.7, "", "its paper"),
    Published("DOT + BootsTAPIR", "strided", 68.5, 81.3, 91.7, "", "its paper"),
    Published("AllTracker", "first", 67.2, 80.6, 89.7, "768 x 1024", "its paper"),
    Published("TAPNext++", "strided", 71.2, None, None, "512", "arXiv 2604.10582"),
]
TABLES = {"davis": DAVIS}


def published_table(name):
    """Markdown of one of TABLES; every row says that it was not measured here."""
    header = ["published, not measured here", "queries", "AJ", "<delta_avg", "OA", "input size", "source"]
    rows = [[row.method, row.query_mode, *("" if value is None else f"{value:.1f}" for value in row[2:5]),
             row.input_size or "not stated", row.source] for row in TABLES[name]]
    return markdown_table(header, rows)
