// What is done to points and pins, and what leaves the page: exports, commands.
"use strict";

function remember() {
  const copy = (point) => ({ ...point, busy: false, pins: point.pins.map((pin) => ({ ...pin })) });
  state.past.push(state.points.map(copy));
  if (state.past.length > 200) state.past.shift();
}

async function undo() {
  if (!state.past.length) return;
  const chosen = state.selected?.id;
  state.points = state.past.pop();
  state.selected = state.points.find((point) => point.id === chosen) ?? state.points.at(-1) ?? null;
  state.points.filter((point) => point.tracks.length === 0).forEach(follow);
  drawPoints();
  await storePins();
}

// row: of a file's tracks, the one that is meant; null: the nearest
function addPoint(x, y, frame = state.frame, id = nextId(), row = null) {
  const point = { id, row, colour: COLOURS[id % COLOURS.length], query: [frame, y, x], tracks: [], pins: [] };
  state.points.push(point);
  state.selected = point;
  return follow(point);
}

const nextId = () => state.points.reduce((most, point) => Math.max(most, point.id), -1) + 1;

// Ask for a point's tracks; while an answer is on its way, only the newest place is asked for next. Of a file, or of a
// saved page, the nearest track that is there is the answer.
async function follow(point) {
  point.again = true;
  if (point.busy) return;
  point.busy = true;
  document.body.dataset.busy = "true";
  try {
    while (point.again) {
      const start = performance.now();
      point.again = false;
      const [t, y, x] = point.query.map((value) => +value.toFixed(2));
      const tracks = await Promise.all(source.answers.map((answer, k) =>
        answer.point(t, x, y, k === 0 ? point.row : null)));
      point.tracks = tracks;
      tell("");
      Object.assign(document.body.dataset, { took: performance.now() - start, answers: ++answered });
      drawPoints();
    }
  } catch (error) {
    state.points = state.points.filter((other) => other !== point || other.tracks.length);
    if (!state.points.includes(state.selected)) state.selected = state.points.at(-1) ?? null;
    drawPoints();
    tell(error.message, true);
  } finally {
    point.busy = false;
    document.body.dataset.busy = String(state.points.some((other) => other.busy));
  }
}

function select(point) {
  state.selected = point;
  state.error = null;
  drawPoints();
}

function removePoint(point) {
  remember();
  state.points = state.points.filter((other) => other !== point);
  if (state.selected === point) state.selected = state.points.at(-1) ?? null;
  if (!state.selected) tell("");
  drawPoints();
  if (point.pins.length) storePins();
}

// Where a point was asked, or, of a file, where the track that answers was: [t, y, x]
const originOf = (point) => [...point.tracks[0].query];

// The selected point is here in this frame; visible: null for as it is said to be
function setPin(x, y, visible = null) {
  const point = state.selected, { frame } = state, track = point.tracks[0];
  if (originOf(point)[0] === frame) {
    tell("This is the frame that the point was asked in: add another point, or pin it in another frame.", true);
    return false;
  }
  const before = point.pins.find((pin) => pin.frame === frame);
  const limits = [scene.width, scene.height];
  const place = [x ?? before?.x ?? track.place[2 * frame], y ?? before?.y ?? track.place[2 * frame + 1]]
    .map((value, axis) => +Math.min(Math.max(value, 0), limits[axis]).toFixed(3));
  const pin = { frame, x: place[0], y: place[1], visible: visible ?? before?.visible ?? 1 };
  point.pins = [...point.pins.filter((other) => other !== before), pin].sort((a, b) => a.frame - b.frame);
  drawPoints();
  return true;
}

function mark(visible) {
  if (!state.selected?.tracks[0] || source.saved) return;
  remember();
  if (setPin(null, null, visible)) storePins();
  else state.past.pop();
}

let answered = 0;
let storing = Promise.resolve();
function storePins() {  // one after the other, each with all pins that there are then
  storing = storing.then(() => {
    if (source.saved) return null;
    const rows = state.points.filter((point) => point.pins.length).flatMap((point) => {
      const [t, y, x] = originOf(point), track = source.answers[0].exact ? point.id : point.tracks[0].row;
      return [[track, t, +x.toFixed(3), +y.toFixed(3), 1],
        ...point.pins.map((pin) => [track, pin.frame, pin.x, pin.y, pin.visible])];
    });
    return source.writePins(rows).then(() => { document.body.dataset.stored = rows.length; });
  }).catch((error) => tell(`not stored: ${error.message}`, true));
  return storing;
}

async function readPins() {
  for (const [id, frame, x, y, visible] of await source.readPins()) {
    const point = state.points.find((other) => other.id === id);
    if (point) point.pins.push({ frame, x, y, visible });
    else await addPoint(x, y, frame, id, source.answers[0].exact ? null : id);
  }
  drawPoints();
}

// ------------------------------------------------------------------------------------------------ grid, exports

async function showGrid() {
  const step = Math.max(1, Math.round(Number($("spacing").value)) || 8);
  if (!$("dense").checked) {
    state.grids = null;
    draw();
    return;
  }
  tell("The grid is followed …");
  document.body.dataset.busy = "true";
  try {
    state.grid = [step, state.frame];
    state.grids = await Promise.all(source.answers.map((answer) => answer.grid(...state.grid)))
      .then((all) => all.map((tracks) => ({ tracks, colours: gridColours(tracks) })));
    tell(count(state.grids[0].tracks.length, "point"));
  } catch (error) {
    $("dense").checked = false;
    tell(error.message, true);
  }
  document.body.dataset.busy = "false";
  draw();
}

// What is exported, as text for answer k: the points, or the grid when there are none
function queries(k) {
  const answer = source.answers[k];
  return state.points.length ? state.points.map((point) => answer.pointText(point.tracks[k])).join(";")
    : answer.gridText(...state.grid);
}

async function exportAs(format) {
  const response = await fetch(`/export/${format}?${source.answers[0].parameters(queries(0))}`);
  if (!response.ok) throw new Error((await response.json()).error);
  const [, download] = /filename="([^"]+)"/.exec(response.headers.get("content-disposition"));
  const href = URL.createObjectURL(await response.blob());
  const link = Object.assign(document.createElement("a"), { href, download });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);  // ms; the browser has taken it by then
}

async function copyCommand() {
  const commands = scene.answers.flatMap(({ command }, k) =>
    (command ? [`${command} --queries "${queries(k)}" --out tracks.npz`] : []));
  $("told").textContent = commands.join("\n");
  await navigator.clipboard?.writeText(commands.join("\n")).catch(() => {});  // it can be selected where it is shown
}
