// The page's state, and all that is shown of it; tests read it on document.body.dataset.
"use strict";

const $ = (id) => document.getElementById(id);
const state = {
  frame: 0, playing: false, mode: "add", base: "original", overlay: "", opacity: 0.6, trails: true, length: 12,
  grids: null,  // of each pane, {tracks, colours}
  points: [],  // {id, colour, query: [t, y, x], tracks: of each answer a Track, pins: [{frame, x, y, visible}]}
  selected: null, view: { scale: 1, x: 0, y: 0 }, fitted: true, past: [],
};
const LEGENDS = { depth: "pseudo-depth: red is near, blue is far", flow: "motion to the next frame: hue is direction, "
  + "saturation is length", mask: "the object mask that preprocessing was given" };
let source, scene, images, panes;

// ------------------------------------------------------------------------------------------------ drawing

let drawn = null;
function draw() {  // soon, once, however often it is asked for
  drawn ??= requestAnimationFrame(() => {
    drawn = null;
    paint().catch((error) => tell(error.message, true));
  });
}

async function paint() {
  const { frame, view } = state;
  const layers = [[state.base, 1], [state.overlay, state.opacity]].filter(([layer]) => layer);
  const loaded = await Promise.all(layers.map(async ([layer, opacity]) => [await images.get(layer, frame), opacity]))
    .catch(() => {
      throw new Error(`the ${layers.map(([layer]) => layer).join(" or ")} of frame ${frame} cannot be shown`);
    });
  if (frame !== state.frame) return;  // a newer one is on its way
  panes.forEach((pane, k) => {
    const grid = state.grids?.[k] && { ...state.grids[k], length: state.trails ? state.length : 0 };
    pane.paint(scene, view, frame, loaded, grid, state.fitted);
    pane.drawMarks(scene, view, frame, pointsOf(k));
  });
  document.body.dataset.shown = frame;
  say();
}

const pointsOf = (k) => state.points.map((point) => ({
  ...point, track: point.tracks[k], pins: k === 0 ? point.pins : [], selected: point === state.selected,
}));

function drawPoints() {  // where points, or what is selected, changed
  panes.forEach((pane, k) => pane.drawPaths(scene, pointsOf(k)));
  listPoints();
  drawStrips();
  draw();
}

function drawStrips() {
  const track = state.selected?.tracks[0];
  $("strips").replaceChildren(...(track ? strips(track, scene, state.selected.pins) : []));
  if (track) $("strips").append(Object.assign(document.createElement("div"), { className: "playhead" }));
  say();
}

function listPoints() {
  $("points").replaceChildren(...state.points.map((point) => {
    const [t, y, x] = point.query;
    const item = document.createElement("li");
    const choose = Object.assign(document.createElement("button"), { type: "button" });
    choose.setAttribute("aria-pressed", point === state.selected);
    choose.append(`${point.id}: ${x.toFixed(1)}, ${y.toFixed(1)} in frame ${t}`);
    if (point.pins.length) choose.append(` · ${point.pins.length} pinned`);
    choose.style.setProperty("--colour", point.colour);
    choose.onclick = () => { select(point); go(t); };
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
    remove.className = "remove";
    remove.setAttribute("aria-label", `Remove point ${point.id}`);
    remove.onclick = () => removePoint(point);
    item.append(choose, remove);
    return item;
  }));
}

// All that is text, and the state for tests
function say() {
  const { frame, selected } = state, last = scene.num_frames - 1;
  $("slider").value = frame;
  $("number").textContent = `${frame} / ${last}`;
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  $("put").textContent = state.mode === "pin" ? "Pin" : "Add";
  for (const id of ["hidden", "seen"]) $(id).disabled = !selected?.tracks[0];
  $("refit").disabled = !scene.fits || !(fitting || state.points.some((point) => point.pins.length));
  $("undo").disabled = !state.past.length;
  $("clear").disabled = !state.points.length;
  const what = state.points.length ? count(state.points.length, "point") : state.grids ? "grid" : "";
  $("export").textContent = `Export ${what}`;
  $("export").disabled = !what;
  $("copy").disabled = !what || !scene.answers.some((answer) => answer.command);
  const track = selected?.tracks[0];
  if (track && !state.error) {
    const depth = track.depth[frame], place = [0, 1].map((axis) => track.place[2 * frame + axis].toFixed(1)).join(", ");
    $("status").textContent = `Point ${selected.id} in frame ${frame}: ${stateOf(track, frame, scene)}, at ${place}, ` +
      `confidence ${(1 - track.score[frame]).toFixed(2)}${Number.isFinite(depth) ? `, depth ${depth.toFixed(3)}` : ""}`;
  }
  const playhead = document.querySelector(".playhead");
  if (playhead) playhead.style.setProperty("--at", (frame + 0.5) / scene.num_frames);
  Object.assign(document.body.dataset, {
    frame, playing: state.playing, mode: state.mode, base: state.base, overlay: state.overlay,
    points: state.points.length, selected: selected?.id ?? "", grid: state.grids?.[0].tracks.length ?? 0,
    zoom: state.view.scale,
    pins: state.points.reduce((sum, point) => sum + point.pins.length, 0), error: state.error ?? "",
  });
  document.body.classList.toggle("no-overlay", !state.overlay);
  $("legend").textContent = LEGENDS[state.overlay] ?? "";
}

const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function tell(line, wrong = false) {
  state.error = wrong ? line : null;
  $("status").textContent = line;
  $("status").classList.toggle("wrong", wrong);
  document.body.dataset.error = state.error ?? "";
}

// ------------------------------------------------------------------------------------------------ time

function go(frame) {
  const before = state.frame;
  state.frame = Math.min(Math.max(Math.round(frame), 0), scene.num_frames - 1);
  if (state.frame !== before) state.error = null;
  for (const ahead of [1, 2, 3]) {  // so that playing need not wait
    const next = (state.frame + ahead) % scene.num_frames;
    if (!state.playing) break;
    for (const layer of [state.base, state.overlay]) if (layer) images.get(layer, next).catch(() => {});
  }
  say();
  draw();
}

function play(on = !state.playing) {
  state.playing = on;
  say();
  if (on) requestAnimationFrame((start) => run(start, state.frame));
}

function run(start, first) {
  requestAnimationFrame((now) => {
    if (!state.playing) return;
    const waits = Number(document.body.dataset.shown) !== state.frame;  // a frame is skipped only if it was shown
    const next = (first + Math.floor(((now - start) / 1000) * scene.fps)) % scene.num_frames;
    if (!waits && next !== state.frame) go(next);
    run(start, first);
  });
}
