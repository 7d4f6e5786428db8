"""The page in a real browser: what a person does, and what then is on the screen, against the closed form.

Places are compared on the screen, in CSS pixels, by the browser's own transformations of what is drawn.
"""

import re
import shlex
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import track
import view
from loaders.pins import read_pins
from tests.helpers.analytic_run import NUM_FRAMES, SIZE, VIDEO_SIZE
from tests.helpers.page import Visitor, browser, served
from tests.viewer.conftest import known_track
from tracking.sources import RunSource
from viewer.answers import AnswersOfSource
from viewer.fitting import Fitting
from viewer.save import save_page

MIXED = 0, 27.0, 22.0  # t, x, y: seen, then hidden, then seen again when it has crossed the middle column


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address(scene):
    with served(scene) as found:
        yield found


@pytest.fixture
def visitor(chromium, address, scene):
    scene.pins.unlink(missing_ok=True)
    found = Visitor(chromium, address, accept_downloads=True)
    yield found
    found.context.close()
    assert found.complaints == []
    assert {url.split("/", 3)[2] for url in found.asked if not url.startswith("data:")} == {address.split("/")[2]}


def on_screen(visitor, places, pane=0):
    return np.array([visitor.place(x, y, pane) for x, y in places])


def test_a_click_draws_the_track_where_it_is_in_every_frame(visitor):
    t, x, y = MIXED
    visitor.click(x, y)
    query = [float(number) for number in visitor.page.evaluate("[...state.points[0].query]")]
    places, hidden = known_track(t, query[2], query[1])
    assert hidden.any() and not hidden[-1] and np.abs([query[2] - x, query[1] - y]).max() < 0.1
    expected, drawn = on_screen(visitor, places), visitor.paths()
    steps = [(kind, line[k], line[k + 1]) for kind, line in drawn for k in range(len(line) - 1)]
    assert len(steps) == NUM_FRAMES - 1
    for frame, (kind, start, end) in enumerate(steps):
        assert kind == ("hidden" if hidden[frame] or hidden[frame + 1] else "seen")
        np.testing.assert_allclose([start, end], expected[frame : frame + 2], atol=0.1)
    dashes = visitor.page.evaluate("Object.fromEntries([...document.querySelectorAll('polyline:not(.casing)')].map("
                                   "(line) => [line.getAttribute('class'), getComputedStyle(line).strokeDasharray]))")
    assert dashes["seen"] == "none" and dashes["hidden"] != "none"


def marks(visitor):
    """{class of a mark: its place on the screen}."""
    return visitor.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.over .mark')].map((mark) => {"
        " const at = mark.getScreenCTM(), name = mark.getAttribute('class').replace(' selected', '');"
        " return [name, [at.e, at.f]]; }))")


def test_slider_keys_and_playing_move_through_the_frames(visitor):
    t, x, y = MIXED
    visitor.click(x, y)
    query = visitor.page.evaluate("[...state.points[0].query]")
    places, hidden = known_track(t, query[2], query[1])
    expected = on_screen(visitor, places)

    def check(frame):
        visitor.until(f"[data-shown='{frame}']")
        found = marks(visitor)
        assert list(found) == ["mark hidden" if hidden[frame] else "mark seen"]
        np.testing.assert_allclose(next(iter(found.values())), expected[frame], atol=0.1)

    keys = "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home"
    for key, frame in zip(keys, (1, 2, 1, 4, 4, 0)):
        visitor.page.keyboard.press(key)
        check(frame)
    visitor.page.focus("#slider")
    visitor.page.keyboard.press("End")
    check(4)
    box = visitor.page.locator("#slider").bounding_box()
    visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    check(2)
    bars = visitor.page.locator("#strips svg.visibility").bounding_box()
    visitor.page.mouse.click(bars["x"] + 0.7 * bars["width"], bars["y"] + bars["height"] / 2)
    check(3)
    visitor.page.evaluate("document.activeElement.blur()")
    visitor.page.keyboard.press("Space")
    visitor.until("[data-playing=true]")
    visitor.until(":not([data-shown='3'])")
    visitor.page.keyboard.press("Space")
    visitor.until("[data-playing=false]")


def test_strips_show_a_bar_for_each_frame(visitor):
    visitor.click(*MIXED[1:])
    states = visitor.page.evaluate("[...document.querySelectorAll('.visibility rect')].map((bar) => bar.classList[0])")
    query = visitor.page.evaluate("[...state.points[0].query]")
    places, hidden = known_track(0, query[2], query[1])
    assert states == ["hidden" if one else "seen" for one in hidden]
    np.testing.assert_allclose(visitor.heights("confidence"), [1, *np.where(hidden[1:], 0.02, 0.75)], atol=1e-6)
    y = places[:, 1]  # depth rises with it, and high is near
    np.testing.assert_allclose(visitor.heights("depth"), 1 - 0.9 * (y - y.min()) / np.ptp(y), atol=1e-3)


def test_dragging_asks_for_the_place_where_it_ends(visitor):
    page = visitor.page
    page.keyboard.press("End")
    start, end = visitor.place(60, 10), visitor.place(40, 30)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*np.mean([start, end], axis=0), steps=5)
    page.mouse.move(*end, steps=5)
    page.mouse.up()
    visitor.until("[data-busy=false][data-points='1']")
    query = page.evaluate("[...state.points[0].query]")
    np.testing.assert_allclose(query, [4, 30, 40], atol=0.1)
    drawn = np.concatenate([line for _, line in visitor.paths()])
    np.testing.assert_allclose(drawn[-1], on_screen(visitor, [[query[2], query[1]]])[0], atol=0.1)
    assert "in frame 4" in page.inner_text("#points")


def test_pins_are_written_and_undone(visitor, scene):
    page = visitor.page
    visitor.click(40, 20)
    query = page.evaluate("[...state.points[0].query]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    page.mouse.click(*visitor.place(50, 30))
    visitor.until("[data-stored='2']")
    rows = [line.split(",") for line in scene.pins.read_text().splitlines()]
    assert rows[0] == ["track", "frame", "x", "y", "visible"]
    np.testing.assert_allclose(np.float64(rows[1]), [0, 0, query[2], query[1], 1], atol=2e-3)
    np.testing.assert_allclose(np.float64(rows[2]), [0, 2, 50, 30, 1], atol=0.1)
    np.testing.assert_allclose(marks(visitor)["mark pin"], visitor.place(50, 30), atol=1)
    page.keyboard.press("ArrowRight")
    page.click("#hidden")
    visitor.until("[data-stored='3']")
    last = np.float64(scene.pins.read_text().splitlines()[-1].split(","))
    place = known_track(0, query[2], query[1])[0][3]
    np.testing.assert_allclose(last, [0, 3, *place, 0], atol=2e-3)

    again = Visitor(page.context.browser, visitor.address)  # they are there when the page is opened anew
    assert again.state["pins"] == "2" and again.complaints == []
    again.context.close()
    for stored in (2, 0):
        page.keyboard.press("u")
        visitor.until(f"[data-stored='{stored}']")
    assert not scene.pins.exists() and visitor.state["pins"] == "0" and visitor.state["points"] == "1"


def test_the_run_is_fitted_again_and_its_new_tracks_are_shown(visitor, scene, tmp_path, monkeypatch):
    page, waits = visitor.page, tmp_path / "wait"
    visitor.click(40, 20)
    assert page.is_disabled("#refit")  # nothing is pinned
    query = page.evaluate("[...state.points[0].query]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    page.mouse.click(*visitor.place(52, 24))
    visitor.until("[data-stored='2']")

    def opened(folder):
        source = scene.answers[0].source
        pinned = SimpleNamespace(**vars(source.run) | {"pins": read_pins(scene.pins, scene.answers[0])})
        scene.answers[0] = AnswersOfSource("fitted", RunSource(pinned), "python track.py --run fitted")

    makes = ("import os, sys, time; print('at it', flush=True); os.listdir(sys.argv[sys.argv.index('--out_dir') + 1])\n"
             f"while os.path.exists({str(waits)!r}): time.sleep(0.05)")
    answers = list(scene.answers)
    monkeypatch.setattr(scene, "answers", answers)
    monkeypatch.setattr(scene, "fitting", Fitting(tmp_path, scene.pins, opened, program=(sys.executable, "-c", makes)))
    waits.touch()
    page.click("#refit")
    visitor.until("[data-fitting=true]")
    assert page.inner_text("#refit") == "Cancel"
    page.click("#refit")
    visitor.until("[data-fitted=cancelled]")
    assert scene.answers[0].name == "somewhere" and page.inner_text("#refit") == "Fit again"
    waits.unlink()
    page.keyboard.press("f")
    visitor.until("[data-fitted=done]")
    place = page.evaluate("[...state.points[0].tracks[0].place].slice(2, 4)")
    np.testing.assert_allclose(place, [52, 24], atol=0.3)  # where it was pinned in frame 1
    assert np.linalg.norm(known_track(0, query[2], query[1])[0][1] - [52, 24]) > 5  # where it was before
    page.keyboard.press("u")
    visitor.until("[data-stored='0']")


def test_export_and_the_copied_command_give_the_same_file(visitor, tmp_path):
    page = visitor.page
    visitor.click(40, 20)
    page.keyboard.press("End")
    visitor.click(20, 40)
    with page.expect_download() as waiting:
        page.select_option("#format", "npz")
        page.click("#export")
    assert waiting.value.suggested_filename == "tracks.npz"
    waiting.value.save_as(tmp_path / "page.npz")
    page.click("#copy")
    page.wait_for_selector("#told:not(:empty)")
    words = shlex.split(page.inner_text("#told"))
    assert words[:2] == ["python", "track.py"]
    assert re.fullmatch(r"0,[\d.]+,[\d.]+;4,[\d.]+,[\d.]+", words[words.index("--queries") + 1])
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text("#told")
    words[words.index("--out") + 1] = str(tmp_path / "command.npz")
    track.main(words[2:])
    with np.load(tmp_path / "page.npz") as got, np.load(tmp_path / "command.npz") as expected:
        assert got["tracks"].shape == (2, NUM_FRAMES, 2)
        for name in expected.files:
            np.testing.assert_array_equal(got[name], expected[name])


def test_zoomed_in_pixels_are_shown_as_they_are(visitor, scene):
    page, frame = visitor.page, scene.frames.frame(1)
    page.keyboard.press("ArrowRight")
    visitor.until("[data-shown='1']")
    fitted, held = float(visitor.state["zoom"]), visitor.place(30, 20)
    page.mouse.move(*held)
    page.mouse.wheel(0, -400)
    visitor.until(f":not([data-zoom='{visitor.state['zoom']}'])") if float(visitor.state["zoom"]) == fitted else None
    assert float(visitor.state["zoom"]) > 1.9 * fitted
    np.testing.assert_allclose(visitor.place(30, 20), held, atol=1)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for row, column in ((9, 13), (8, 12), (10, 15)):
        x, y = (column + 0.5) * VIDEO_SIZE[1] / SIZE[1], (row + 0.5) * VIDEO_SIZE[0] / SIZE[0]
        for dx in (-0.4, 0, 0.4):  # of a pixel: it is a square of one colour
            assert visitor.pixel(x + dx * VIDEO_SIZE[1] / SIZE[1], y)[:3] == frame[row, column].tolist()


def test_layers_are_laid_over(visitor):
    page = visitor.page
    page.select_option("#base", "rendered")
    visitor.until("[data-base=rendered]")
    page.wait_for_timeout(200)
    assert np.abs(np.array(visitor.pixel(50, 40)[:3]) - 128).max() <= 2
    page.select_option("#overlay", "mask")
    visitor.until("[data-overlay=mask]")
    page.wait_for_timeout(200)
    outside, inside = (np.array(visitor.pixel(*at)[:3]) for at in ((66, 46), (36, 26)))  # the mask is in the middle
    assert np.abs(outside - 128).max() <= 2 and inside[0] > inside[1] + 30


def test_a_grid_is_drawn_with_trails(visitor):
    page = visitor.page
    page.fill("#spacing", "17")
    page.keyboard.press("Enter")
    page.check("#dense")
    visitor.until("[data-grid='12'][data-busy=false]")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    assert page.inner_text("#export") == "Export grid"
    page.keyboard.press("d")
    visitor.until("[data-grid='0']")


def test_a_question_that_has_no_answer_is_a_line_on_the_page(visitor):
    visitor.page.evaluate("source.answers[0].pointText = () => '9,9,9'")
    visitor.page.mouse.click(*visitor.place(30, 20))
    visitor.page.wait_for_selector("#status.wrong")
    assert "outside the video" in visitor.page.inner_text("#status") and visitor.state["points"] == "0"
    assert all("400" in line for line in visitor.complaints)
    visitor.complaints.clear()


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)])
def test_everything_fits_and_is_reached_by_keyboard(visitor, size):
    page = visitor.page
    page.set_viewport_size(dict(zip(("width", "height"), size)))
    visitor.until("")  # drawn at that size: a click on where things were before is lost
    visitor.click(40, 20)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    if size == (1280, 720):
        assert page.evaluate("document.documentElement.scrollHeight") <= size[1]
    reached = []
    page.focus("[name=mode]:checked")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(visitor.focused())
    order = ["base", "overlay", "dense", "help", "play", "slider", "fit", "x", "put", "hidden", "undo", "format",
             "export", "copy"]
    assert [name for name in dict.fromkeys(reached) if name in order] == order
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((one) => !(one.labels?.length || one.ariaLabel"
        " || one.textContent.trim())).map((one) => one.outerHTML)")
    assert unnamed == []
    page.fill("#x", "30")
    page.fill("#y", "12.5")
    page.press("#y", "Enter")
    visitor.until("[data-points='2'][data-busy=false]")


def test_files_are_compared_side_by_side(chromium, run, tmp_path):
    track.main(["--run", "x", "--queries", "grid:17", "--polish", "off", "--out", str(tmp_path / "t.npz")])
    options = ["--run", "x", "--compare", str(tmp_path / "t.npz"), "--pins", str(tmp_path / "p.csv")]
    with served(view.open_scene(view.parse_arguments(options))) as address:
        visitor = Visitor(chromium, address)
        visitor.click(40, 20, pane=1)
        exact, of_file = (np.concatenate([line for _, line in visitor.paths(pane)])[0] for pane in (0, 1))
        np.testing.assert_allclose(exact, visitor.place(40, 20, 0), atol=1)
        with np.load(tmp_path / "t.npz") as file:
            starts = file["tracks"][:, 0]
        closest = starts[np.linalg.norm(starts - [40, 20], axis=1).argmin()]
        np.testing.assert_allclose(of_file, visitor.place(*closest, 1), atol=0.1)
        assert visitor.page.locator(".caption").all_inner_texts() == ["x", "t.npz"]
        visitor.context.close()
    assert visitor.complaints == []


def test_pins_of_a_file_bear_its_numbers(chromium, run, tmp_path):
    track.main(["--run", "x", "--queries", "grid:17", "--polish", "off", "--out", str(tmp_path / "t.npz")])
    options = ["--tracks", str(tmp_path / "t.npz"), "--data_dir", run.data_dir, "--pins", str(tmp_path / "p.csv")]
    with np.load(tmp_path / "t.npz") as file:
        starts = file["query_points"][:, [2, 1]]
    with served(view.open_scene(view.parse_arguments(options))) as address:
        visitor = Visitor(chromium, address)
        visitor.click(*(starts[7] + [1, -1]))
        visitor.page.keyboard.press("End")
        visitor.page.keyboard.press("h")
        visitor.until("[data-stored='2']")
        rows = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)
        np.testing.assert_allclose(rows[0], [7, 0, *starts[7], 1], atol=1e-3)
        assert rows[1, [0, 1, 4]].tolist() == [7, NUM_FRAMES - 1, 0]
        again = Visitor(chromium, address)
        assert again.page.evaluate("state.points.map((point) => point.tracks[0].row)") == [7]
        assert again.state["pins"] == "1"
        assert visitor.page.is_disabled("#copy")  # nothing but the file could give these tracks
        visitor.context.close()
        again.context.close()
    assert visitor.complaints == again.complaints == []


@pytest.fixture(scope="module")
def saved(scene, folder):
    save_page(folder / "page.html", scene, step=6)
    return folder / "page.html"


def test_a_saved_page_needs_nobody(chromium, saved):
    visitor = Visitor(chromium, saved.as_uri(), offline=True)
    visitor.until(":not([data-grid='0'])")  # it opens with something to see
    for frame in (0, 2, 4):
        visitor.page.keyboard.press("Home")
        for _ in range(frame):
            visitor.page.keyboard.press("ArrowRight")
        visitor.until(f"[data-shown='{frame}']")
        visitor.click(45, 25)
        t, y, x = visitor.page.evaluate("[...state.points.at(-1).tracks[0].query]")
        places, hidden = known_track(int(t), x, y)
        assert np.linalg.norm(places[frame] - [45, 25]) < 6
        last = [line for kind, line in visitor.paths()]
        drawn = visitor.page.evaluate("document.querySelector('.path.selected').childElementCount / 2")
        mine = np.concatenate(last[-int(drawn):])
        expected = on_screen(visitor, places)
        assert all(np.linalg.norm(expected - vertex, axis=1).min() < 0.3 for vertex in mine)  # 1/64 px of the video
    assert not visitor.page.is_visible("#export") and not visitor.page.is_visible("#hidden")
    visitor.page.select_option("#overlay", "depth")
    visitor.page.keyboard.press("d")
    visitor.until("[data-overlay=depth][data-grid='0']")
    visitor.context.close()
    assert visitor.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in visitor.asked)
