"""A page served to a headless Chromium: what tests of the page have in common."""

import shutil
import threading
import time
from contextlib import contextmanager

import pytest

BROWSERS = "chromium", "chromium-browser", "google-chrome"  # by the names that distributions give it


@contextmanager
def served(scene, host="127.0.0.1"):
    """The address of a viewer.scene.Scene's live page, on a port of its own."""
    uvicorn = pytest.importorskip("uvicorn", reason="no uvicorn (requirements-viewer.txt)")
    from view import listen
    from viewer.app import make_app

    listener = listen(host, 0)
    server = uvicorn.Server(uvicorn.Config(make_app(scene, host), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@contextmanager
def browser():
    """A headless browser of the system's, by playwright. The test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (requirements-browser.txt)")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


class Visitor:
    """A page open in a browser, with what it asked for and complained about."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(viewport={"width": 1280, "height": 720}, **options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.asked, self.complaints, self.address = [], [], address
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.until("[data-ready=true][data-shown]")

    def until(self, selector):
        """Wait for a state of the page, as its body's attributes, and until what follows from it is drawn."""
        self.page.wait_for_selector(f"body{selector}")
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @property
    def state(self):
        return self.page.evaluate("({...document.body.dataset})")

    def place(self, x, y, pane=0):
        """Where a position of the video is on the screen, by the page's view: (x, y) in CSS pixels."""
        return self.page.evaluate(
            "([x, y, pane]) => { const box = panes[pane].root.getBoundingClientRect(), { view } = state;"
            " return [box.left + view.x + x * view.scale, box.top + view.y + y * view.scale]; }",
            [float(x), float(y), pane])

    def click(self, x, y, pane=0):
        """A click at a position of the video, and the answer to it."""
        before = self.state.get("answers", "0")
        self.page.mouse.click(*self.place(x, y, pane))
        self.until(f":not([data-answers='{before}'])[data-busy=false]")

    def heights(self, strip):
        """Of the bars of a strip, from 0 to 1."""
        return self.page.evaluate(
            "(strip) => [...document.querySelectorAll(`.${strip} rect`)].map((bar) => bar.height.baseVal.value)", strip)

    def pixel(self, x, y, pane=0):
        """The colour on the canvas at a position of the video."""
        return self.page.evaluate(
            """([x, y, pane]) => { const { view } = state, at = (value) => Math.floor(value * devicePixelRatio);
            const context = panes[pane].canvas.getContext("2d");
            return [...context.getImageData(at(view.x + x * view.scale), at(view.y + y * view.scale), 1, 1).data]; }""",
            [x, y, pane])

    def focused(self):
        """What names the element that has the focus."""
        return self.page.evaluate(
            "(({ id, value, textContent }) => id || value || textContent)(document.activeElement)")

    def paths(self, pane=0):
        """[(class, [[x, y] on the screen])] of the paths drawn, by the browser's own reckoning."""
        return self.page.evaluate(
            """(pane) => [...panes[pane].root.querySelectorAll("polyline:not(.casing)")].map((line) =>
            [line.getAttribute("class"), [...line.points].map((point) => {
              const at = point.matrixTransform(line.getScreenCTM()); return [at.x, at.y]; })])""", pane)
