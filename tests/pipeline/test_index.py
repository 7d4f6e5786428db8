"""The overview, read by the standard library's parser."""

from html.parser import HTMLParser

from pipeline import index

STATUSES = {
    "a & b": {"state": "done", "stages": {"data": {"seconds": 30}, "fit": {"seconds": 61}}, "figures": {"AJ": 51.237}},
    "c": {"state": "failed", "stages": {}, "reason": "c.mp4: <b>no</b> frames"},
    "d": {"state": "running", "stages": {}, "stage": "fit", "node": "n1", "since": 0},
    "e": {"state": "waiting", "stages": {}},
}


class Reader(HTMLParser):
    """Cells of the table's rows, addresses of links and pictures; tags have to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.pictures, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.links += [value for name, value in attributes if name == "href"]
        self.pictures += [value for name, value in attributes if name == "src"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_rows_links_and_escapes(tmp_path):
    (tmp_path / "a & b").mkdir()
    for name in ("tracks.npz", "log.txt", "thumbnail.jpg"):
        (tmp_path / "a & b" / name).touch()
    text = index.page(STATUSES, tmp_path, refresh=5)
    read = Reader(text)
    assert read.rows[0] == ["", "video", "state", "time", "AJ", ""]
    assert read.rows[1] == ["", "a & b", "done", "1 min", "51.24", "tracks log"]
    assert read.rows[2][2] == "failed: c.mp4: <b>no</b> frames"
    assert read.rows[3][2].startswith("fit for ") and read.rows[3][2].endswith(" on n1")
    assert read.links == ["a%20%26%20b/tracks.npz", "a%20%26%20b/log.txt"]
    assert read.pictures == ["a%20%26%20b/thumbnail.jpg"]
    assert "1 failed, 1 running, 1 waiting, 1 done" in text and 'http-equiv="refresh"' in text
    assert 'http-equiv="refresh"' not in index.page(STATUSES, tmp_path)


def test_durations():
    found = [index.duration(count) for count in (0.4, 59, 60, 7199, 9000)]
    assert found == ["0 s", "59 s", "1 min", "119 min", "2.5 h"]
