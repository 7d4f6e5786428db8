// Mouse, touch, keys and the controls, and how the page starts.
"use strict";

// ------------------------------------------------------------------------------------------------ the view

function fit() {
  const { clientWidth, clientHeight } = panes[0].root;
  const scale = Math.min(clientWidth / scene.width, clientHeight / scene.height);
  state.view = {
    scale, x: (clientWidth - scene.width * scale) / 2, y: (clientHeight - scene.height * scale) / 2,
  };
  state.fitted = true;
  draw();
}

// Zoom to a scale; the place (x, y) of the pane stays where it is. Corners of pixels are kept on the screen's pixels.
function zoom(scale, x = panes[0].root.clientWidth / 2, y = panes[0].root.clientHeight / 2) {
  const { view } = state, limited = Math.min(Math.max(scale, 0.05), 64);
  pan(x - ((x - view.x) / view.scale) * limited, y - ((y - view.y) / view.scale) * limited, limited);
}

function pan(x, y, scale = state.view.scale) {
  const whole = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
  state.view = { scale, x: whole(x), y: whole(y) };
  state.fitted = false;
  draw();
}

function resize() {
  panes.forEach((pane) => pane.resize());
  if (state.fitted) fit();
  else draw();
}

// ------------------------------------------------------------------------------------------------ pointers

const pointers = new Map();  // those that are down: {x, y} in the pane, by their id
let gesture = null;  // what the first of them does: {kind: "add" | "pin" | "move", ...}

function placeOf(event, pane) {
  const box = pane.root.getBoundingClientRect(), { view } = state;
  const at = { x: event.clientX - box.left, y: event.clientY - box.top };
  const limit = (value, most) => Math.min(Math.max(value, 0), most);
  const video = [[at.x - view.x, scene.width], [at.y - view.y, scene.height]];
  return { ...at, video: video.map(([from, most]) => limit(from / view.scale, most)) };
}

function isInside({ x, y }) {
  const { view } = state, slack = 12;  // CSS pixels: a click just beside the picture is at its edge
  return x >= view.x - slack && x <= view.x + scene.width * view.scale + slack
    && y >= view.y - slack && y <= view.y + scene.height * view.scale + slack;
}

// The point whose mark is at a place of pane k
function pointAt({ x, y }, k) {
  const { view, frame } = state, reach = 9;
  return state.points.find(({ tracks }) => {
    const track = tracks[k];
    if (!track || stateOf(track, frame, scene) === "outside") return false;
    const [dx, dy] = [[view.x - x, 0], [view.y - y, 1]].map(([from, axis]) =>
      from + track.place[2 * frame + axis] * view.scale);
    return Math.hypot(dx, dy) < reach;
  });
}

function down(event, pane, k) {
  pane.root.setPointerCapture(event.pointerId);
  const place = placeOf(event, pane);
  pointers.set(event.pointerId, place);
  if (pointers.size === 2) {  // a second finger: both zoom and pan
    if (gesture?.kind === "add") undo();  // the first one meant no point
    gesture = { kind: "pinch" };
    return;
  }
  if (event.button !== 0 || state.mode === "move") {
    gesture = { kind: "move", x: place.x - state.view.x, y: place.y - state.view.y };
    return;
  }
  if (state.playing) play(false);
  const there = pointAt(place, k), inside = isInside(place);
  gesture = null;
  if (state.mode === "pin" && state.selected?.tracks[0] && !source.saved && inside) {
    remember();
    gesture = setPin(...place.video) ? { kind: "pin" } : null;
    if (!gesture) state.past.pop();
  } else if (there) {
    select(there);
  } else if (inside) {
    remember();
    addPoint(...place.video);
    gesture = { kind: "add", point: state.selected };
  }
}

function moved(event, pane) {
  const place = placeOf(event, pane), before = pointers.get(event.pointerId);
  if (!before) return;
  if (gesture?.kind === "pinch" && pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, found]) => found);
    const spread = (one) => Math.max(Math.hypot(one.x - other.x, one.y - other.y), 1);
    pan(state.view.x + (place.x - before.x) / 2, state.view.y + (place.y - before.y) / 2);
    zoom((state.view.scale * spread(place)) / spread(before), (place.x + other.x) / 2, (place.y + other.y) / 2);
  } else if (gesture?.kind === "move") {
    pan(place.x - gesture.x, place.y - gesture.y);
  } else if (gesture?.kind === "pin") {
    setPin(...place.video);
  } else if (gesture?.kind === "add") {
    gesture.point.query = [gesture.point.query[0], place.video[1], place.video[0]];
    follow(gesture.point);
  }
  pointers.set(event.pointerId, place);
}

function up(event) {
  pointers.delete(event.pointerId);
  if (gesture?.kind === "pin") storePins();
  if (!pointers.size) gesture = null;
}

function listenTo(pane, k) {
  pane.root.addEventListener("pointerdown", (event) => down(event, pane, k));
  pane.root.addEventListener("pointermove", (event) => moved(event, pane));
  for (const name of ["pointerup", "pointercancel"]) pane.root.addEventListener(name, up);
  pane.root.addEventListener("contextmenu", (event) => event.preventDefault());
  pane.root.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = placeOf(event, pane);
    zoom(state.view.scale * 2 ** (-event.deltaY / 400), x, y);
  }, { passive: false });
}

// ------------------------------------------------------------------------------------------------ keys and controls

function setMode(mode) {
  state.mode = mode;
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  say();
}

function neighbour(step) {
  const at = state.points.indexOf(state.selected);
  if (state.points.length) select(state.points[(at + step + state.points.length) % state.points.length]);
}

function flip(id) {
  $(id).checked = !$(id).checked;
  $(id).dispatchEvent(new Event("change"));
}

const KEYS = {
  ArrowLeft: (event) => go(state.frame - (event.shiftKey ? 10 : 1)),
  ArrowRight: (event) => go(state.frame + (event.shiftKey ? 10 : 1)),
  Home: () => go(0), End: () => go(scene.num_frames - 1), " ": () => play(),
  "+": () => zoom(state.view.scale * 2 ** 0.5), "=": () => zoom(state.view.scale * 2 ** 0.5),
  "-": () => zoom(state.view.scale * 2 ** -0.5), 0: () => fit(), 1: () => zoom(1 / devicePixelRatio),
  a: () => setMode("add"), p: () => source.saved || setMode("pin"), m: () => setMode("move"),
  h: () => mark(0), v: () => mark(1), f: () => $("refit").disabled || refit(), u: () => undo(),
  c: () => $("copy").disabled || copyCommand(),
  "[": () => neighbour(-1), "]": () => neighbour(1),
  Delete: () => state.selected && removePoint(state.selected),
  Backspace: () => state.selected && removePoint(state.selected),
  d: () => flip("dense"), t: () => flip("trails"), "?": () => $("keys").showModal(),
};

function pressed(event) {
  const { target, key } = event;
  if (event.altKey || $("keys").open) return;
  if (event.ctrlKey || event.metaKey) {
    if (key.toLowerCase() !== "z" || target.matches("input[type=number]")) return;
    event.preventDefault();
    undo();
    return;
  }
  const owns = { input: ["Home", "End", "ArrowLeft", "ArrowRight"], select: ["Home", "End"], button: [" "] };
  const typed = target.matches("input[type=number]") || (target.matches("select") && key.length === 1);
  const ticked = target.matches("input[type=checkbox], input[type=radio]") && key === " ";
  if (typed || ticked || owns[target.localName]?.includes(key) || !KEYS[key]) return;
  event.preventDefault();
  KEYS[key](event);
}

function connect() {
  document.addEventListener("keydown", pressed);
  new ResizeObserver(resize).observe($("stage"));
  for (const radio of document.querySelectorAll("[name=mode]")) radio.onchange = () => setMode(radio.value);
  const chosen = {
    base: () => { state.base = $("base").value; },
    overlay: () => { state.overlay = $("overlay").value; },
    opacity: () => { state.opacity = $("opacity").value / 100; },
    trails: () => { state.trails = $("trails").checked; },
    length: () => { state.length = Math.max(1, Number($("length").value) || 12); },
  };
  for (const [id, take] of Object.entries(chosen)) {
    $(id).oninput = $(id).onchange = () => { take(); say(); draw(); };
  }
  $("dense").onchange = showGrid;
  $("spacing").onchange = showGrid;
  $("slider").oninput = () => go(Number($("slider").value));
  $("play").onclick = () => play();
  $("out").onclick = () => zoom(state.view.scale * 2 ** -0.5);
  $("in").onclick = () => zoom(state.view.scale * 2 ** 0.5);
  $("fit").onclick = fit;
  $("hidden").onclick = () => mark(0);
  $("seen").onclick = () => mark(1);
  $("refit").onclick = refit;
  $("undo").onclick = undo;
  $("copy").onclick = copyCommand;
  $("export").onclick = () => exportAs($("format").value).catch((error) => tell(error.message, true));
  $("help").onclick = () => $("keys").showModal();
  $("clear").onclick = () => {
    remember();
    const pinned = state.points.some((point) => point.pins.length);
    Object.assign(state, { points: [], selected: null });
    tell("");
    drawPoints();
    if (pinned) storePins();
  };
  $("place").onsubmit = (event) => {
    event.preventDefault();
    remember();
    const [x, y] = [Number($("x").value), Number($("y").value)];
    if (state.mode !== "pin") addPoint(x, y);
    else if (state.selected?.tracks[0] && setPin(x, y)) storePins();
    else state.past.pop();
  };
  const seek = (event) => {
    const bars = $("strips").querySelector("svg")?.getBoundingClientRect();
    if (bars && event.buttons) go(Math.floor(((event.clientX - bars.left) / bars.width) * scene.num_frames));
  };
  $("strips").onpointerdown = $("strips").onpointermove = seek;
}

// ------------------------------------------------------------------------------------------------ start

function fill() {
  document.title = scene.name;
  $("name").textContent = scene.name;
  $("slider").max = scene.num_frames - 1;
  $("spacing").value = scene.step ?? Math.max(2, Math.round(Math.sqrt((scene.width * scene.height) / 600)));
  const names = { original: "original", rendered: "rendered" };
  for (const layer of scene.layers) {
    const list = layer in names ? $("base") : $("overlay");
    list.append(new Option(layer, layer));
  }
  $("overlay").prepend(new Option("nothing", "", true, true));
  for (const axis of ["x", "y"]) Object.assign($(axis), { min: 0, max: axis === "x" ? scene.width : scene.height });
  document.body.classList.toggle("saved", source.saved);
  document.body.classList.toggle("one-base", $("base").length < 2);
  document.body.classList.toggle("no-layers", $("overlay").length < 2);
  $("format").replaceChildren(...(scene.formats ?? []).map((format) => new Option(format, format)));
}

async function showSavedGrid() {
  $("dense").checked = true;
  await showGrid();
  tell("Click or drag on the video: the nearest track that was saved is shown.");
}

async function start() {
  const saved = $("saved");
  source = await (saved ? new Saved(saved.textContent) : new Live()).open();
  ({ scene } = source);
  images = new Images(source);
  panes = scene.answers.map((answer) => new Pane($("stage"), scene.answers.length > 1 ? answer.name : ""));
  panes.forEach(listenTo);
  fill();
  connect();
  panes.forEach((pane) => pane.resize());
  fit();
  if (source.saved) await showSavedGrid();
  else await readPins();
  drawPoints();
  document.body.dataset.ready = "true";
  if (scene.fits) ask("/fit").then(watchFitting).catch((error) => tell(error.message, true));  // of another page
}

start().catch((error) => {
  $("status").textContent = error.message;
  $("status").classList.add("wrong");
  document.body.dataset.error = error.message;
});
