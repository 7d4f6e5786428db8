"""The server: what it answers, and whom it refuses."""

import http.client
import json
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
import pytest

import track
from tests.helpers.analytic_run import NUM_FRAMES, SIZE, depth, grid
from tests.helpers.page import served
from tests.viewer.conftest import known_track
from tests.viewer.test_packing import unpack


@pytest.fixture(scope="module")
def address(scene):
    with served(scene) as found:
        yield urlsplit(found).netloc


def call(address, path, method="GET", body=None, **headers):
    """(status, headers, bytes) of a request, sent as it is written: no client tidies its path."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def answer(address, path, **options):
    status, _, data = call(address, path, **options)
    assert status == 200, data
    return json.loads(data)


def refused(address, path, **options):
    status, _, data = call(address, path, **options)
    assert status == 400
    return json.loads(data)["error"]


def test_the_scene_is_described(address):
    scene = answer(address, "/scene")
    assert (scene["num_frames"], scene["width"], scene["height"], scene["fps"]) == (5, 71, 51, 12.5)
    assert scene["layers"] == ["original", "rendered", "depth", "flow", "mask"]
    assert scene["answers"][0]["command"] == "python track.py --run somewhere --polish off"
    assert {"npz", "csv"} <= set(scene["formats"])


def test_tracks_are_those_of_the_closed_form(address):
    packed = answer(address, f"/tracks?queries={quote('1,20.25,30;4,50,2.5')}&answer=0")
    places, occluded = np.reshape(unpack(packed["place"]), (2, 5, 2)), np.reshape(unpack(packed["occluded"]), (2, 5))
    for row, (t, y, x) in enumerate([(1, 20.25, 30), (4, 50, 2.5)]):
        expected, hidden = known_track(t, x, y)
        np.testing.assert_allclose(places[row], expected, atol=1e-3)
        outside = ((expected < 0) | (expected > [71, 51])).any(-1)
        assert (occluded[row].astype(bool) == hidden | outside).all()
    assert answer(address, "/tracks?queries=grid:17@3")["count"] == (71 // 17) * (51 // 17)


def test_layers_are_images_of_the_frames(address, run, scene):
    def image(name, i):
        status, headers, data = call(address, f"/layer/{name}/{i}")
        assert status == 200 and headers["content-type"] == "image/png"
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)

    for i in range(NUM_FRAMES):
        np.testing.assert_array_equal(image("original", i)[..., ::-1], scene.frames.frame(i))
    mask = image("mask", 2)[..., 3] > 0
    expected = np.zeros(SIZE, bool)
    expected[8:16, 10:22] = True
    np.testing.assert_array_equal(mask, expected)
    assert np.abs(image("rendered", 0).astype(int) - 128).max() <= 1
    colours = image("depth", 0).astype(int)  # one colour a row, as depth rises with y, red to blue
    assert (colours == colours[:, :1]).all()
    assert colours[0, 0, 2] > colours[0, 0, 0] and colours[-1, 0, 0] > colours[-1, 0, 2]
    assert np.diff(depth(grid())[:, 0]).min() > 0
    assert image("flow", NUM_FRAMES - 1).shape[:2] == SIZE


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/tracks", "queries: none given"),
        ("/tracks?queries=9,1,1", "expected t a frame 0 to 4"),
        ("/tracks?queries=1,1,71.5", "x in [0, 71]"),
        ("/tracks?queries=1,nan,3", "outside the video"),
        ("/tracks?queries=smoke", 'expected grid[:STEP][@FRAME]'),
        ("/tracks?queries=grid:0", "positive STEP"),
        ("/tracks?queries=/etc/passwd.npz", "points and grids only, no files"),
        ("/tracks?queries=1,1,1&answer=1", "answer 1: expected a number from 0 to 0"),
        ("/tracks?queries=1,1,1&answer=-1", "answer -1"),
        ("/export/exe?queries=1,1,1", "export exe: expected one of npz"),
        ("/layer/color/0", "layer color, frame 0: expected one of original"),
        ("/layer/original/5", "a frame 0 to 4"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_line(address, path, says):
    line = refused(address, path)
    assert says in line and "\n" not in line


def test_a_grid_of_too_many_points_is_refused(address, monkeypatch):
    monkeypatch.setattr("viewer.answers.MOST_POINTS", 100)
    assert "3621 points; expected at most 100" in refused(address, "/tracks?queries=grid:1")


@pytest.mark.parametrize("path", [
    "/../view.py", "/%2e%2e/view.py", "/layer/../../manifest.json", "/layer/..%2f..%2fpins/0", "/app.py", "/page.html",
    "//etc/passwd", "/layer/original/0.png", "/export/../npz",
])
def test_no_path_is_a_file(address, path):
    status, _, data = call(address, path)
    assert status in (400, 404) and b"import" not in data and b"root:" not in data
    assert "error" in json.loads(data)


def test_only_our_own_page_is_answered(address):
    port = address.split(":")[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "127.0.0.1"):
        assert call(address, "/scene", Host=host)[0] == 200, host
    for host in ("evil.example", f"evil.example:{port}", f"192.168.0.7:{port}", "127.0.0.1.evil.example", "[", ""):
        assert call(address, "/scene", Host=host)[0] == 403, host
    assert call(address, "/scene", Origin=f"http://{address}")[0] == 200
    for origin in ("http://evil.example", "null", "http://[", "", f"http://localhost:{port}", "http://127.0.0.1:1"):
        assert call(address, "/pins", method="PUT", body="{}", Origin=origin)[0] == 403, origin
    assert call(address, "/tracks?queries=1,1,1", Sec_Fetch_Site="cross-site")[0] == 403
    assert call(address, "/layer/original/0", Sec_Fetch_Site="same-site")[0] == 403
    assert call(address, "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to the page


def test_the_page_may_load_nothing_from_elsewhere(address):
    for path in ("/", "/page.js", "/scene"):
        headers = call(address, path)[1]
        assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' data: blob:;")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("name", ["npz", "csv", "cotracker", "nuke"])
def test_exports_are_the_files_of_the_command(address, tmp_path, name):
    text = "1,20.25,30;4,50,2.5"
    status, headers, data = call(address, f"/export/{name}?queries={quote(text)}")
    assert status == 200 and "attachment" in headers["content-disposition"]
    path = tmp_path / {"csv": "t.csv", "nuke": "t.nk"}.get(name, "t.npz")
    track.main(["--run", "x", "--queries", text, "--polish", "off", "--format", name, "--out", str(path)])
    if path.suffix != ".npz":
        assert data == path.read_bytes()
        return
    (tmp_path / "got.npz").write_bytes(data)
    with np.load(tmp_path / "got.npz") as got, np.load(path) as expected:
        assert got.files == expected.files
        for array in got.files:
            np.testing.assert_array_equal(got[array], expected[array])


def test_pins_are_kept_in_the_file(address, scene):
    def put(pins, revision):
        return call(address, "/pins", method="PUT", body=json.dumps({"pins": pins, "revision": revision}))

    before = answer(address, "/pins")
    assert before["pins"] == [] and before["revision"] == "" and before["file"] == str(scene.pins)
    rows = [[0, 1, 30, 20.25, 1], [0, 3, 31.5, 22, 0]]
    status, _, data = put(rows, "")
    assert status == 200 and json.loads(data)["pins"] == rows
    text = scene.pins.read_text()
    assert text.splitlines() == ["track,frame,x,y,visible", "0,1,30.000,20.250,1", "0,3,31.500,22.000,0"]

    status, _, data = put([], "")  # another page, which did not see them
    assert status == 409 and "reload the page" in json.loads(data)["error"] and scene.pins.read_text() == text
    revision = answer(address, "/pins")["revision"]
    query = [0, 1, 30, 20.25, 1]
    for wrong in ([query, [0, 9, 1, 1, 1]], [query, [0, 3, 1, 99, 1]], [query], [[-1, 0, 1, 1, 1]], "x", [[1]]):
        assert put(wrong, revision)[0] == 400 and scene.pins.read_text() == text
    for body in ("", "[]", "{}", "\xff", "[" * 100_000):
        assert call(address, "/pins", method="PUT", body=body.encode("latin-1"))[0] == 400
    assert call(address, "/pins", method="PUT", body=b" " * (2**22 + 1))[0] == 413
    assert put([], revision)[0] == 200 and not scene.pins.exists()


def test_bound_to_more_than_this_machine_addresses_are_names_of_it():
    from viewer.app import is_this_server

    assert is_this_server("192.168.0.7:80", "0.0.0.0") and is_this_server("[fe80::1]:80", "::")
    assert not is_this_server("evil.example:80", "0.0.0.0") and is_this_server("box.lan", "box.lan")
