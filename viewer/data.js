// What a page is told: the scene, images, tracks; from the server (Live), or from what was saved into the page (Saved).
//
// Positions are pixels of the original video, x right, y down, the centre of the first pixel at (0.5, 0.5); frames
// count from 0. A Track is {query: [t, y, x], place: x, y of every frame, occluded, score, depth, row: its number in
// its set}.
"use strict";

function unpack({ type, step, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  if (type === "uint8") return bytes;
  if (type === "float32") return new Float32Array(bytes.buffer);
  return Float32Array.from(new Int16Array(bytes.buffer), (number) => (number === -32768 ? NaN : number * step));
}

// {count, query, place, ...} -> [Track]
function tracksOf(packed) {
  const [query, place, occluded, score, depth] =
    ["query", "place", "occluded", "score", "depth"].map((name) => unpack(packed[name]));
  const frames = occluded.length / packed.count;
  const part = (array, row, size) => array.subarray(row * size, (row + 1) * size);
  return Array.from({ length: packed.count }, (_, row) => ({
    query: part(query, row, 3), place: part(place, row, 2 * frames), occluded: part(occluded, row, frames),
    score: part(score, row, frames), depth: part(depth, row, frames), row,
  }));
}

// "seen", "hidden" inside the picture, or "outside" of it
function stateOf(track, frame, scene) {
  const x = track.place[2 * frame], y = track.place[2 * frame + 1];
  if (!(x >= 0 && x <= scene.width && y >= 0 && y <= scene.height)) return "outside";
  return track.occluded[frame] ? "hidden" : "seen";
}

// Stretches of a track's path that are drawn alike: [{state: "seen" or "hidden", from, to}], frames inclusive. A step
// is seen if both its ends are, and there is none to or from outside.
function stretches(track, scene, from = 0, to = scene.num_frames - 1) {
  const found = [];
  for (let frame = from; frame < to; frame++) {
    const ends = [stateOf(track, frame, scene), stateOf(track, frame + 1, scene)];
    if (ends.includes("outside")) continue;
    const state = ends.includes("hidden") ? "hidden" : "seen";
    const last = found.at(-1);
    if (last && last.state === state && last.to === frame) last.to++;
    else found.push({ state, from: frame, to: frame + 1 });
  }
  return found;
}

// The track of a set that is nearest to a position in a frame: of those seen there, or else of those inside
function nearest(tracks, scene, frame, x, y) {
  const rank = { seen: 0, hidden: 1, outside: 2 };
  let best = null, key = [3, Infinity];
  for (const track of tracks) {
    const far = Math.hypot(track.place[2 * frame] - x, track.place[2 * frame + 1] - y);
    const now = [rank[stateOf(track, frame, scene)], Number.isNaN(far) ? Infinity : far];
    if (now[0] < key[0] || (now[0] === key[0] && now[1] < key[1])) [best, key] = [track, now];
  }
  return best;
}

// Of each cell of `step` pixels in a frame at most one track
function thinned(tracks, frame, step) {
  const cells = new Map();
  for (const track of tracks) {
    const cell = [0, 1].map((axis) => Math.floor(track.place[2 * frame + axis] / step)).join();
    if (!cell.includes("NaN") && !cells.has(cell)) cells.set(cell, track);
  }
  return [...cells.values()];
}

// Where an answer comes from: point(t, x, y) -> Promise of a Track (of a file, the nearest, or that of
// number `row`), grid(step, frame) -> Promise of [Track]; and, as
// text for the server, which tracks these are: pointText, gridText.
class Asked {
  constructor(number) {
    this.number = number;
    this.exact = true;
  }
  async point(t, x, y) {
    return (await ask(`/tracks?${this.parameters(this.pointText({ query: [t, y, x] }))}`).then(tracksOf))[0];
  }
  async grid(step, frame) {
    return tracksOf(await ask(`/tracks?${this.parameters(this.gridText(step, frame))}`));
  }
  pointText(track) {
    return [...track.query].map((value) => +value.toFixed(2)).join();
  }
  gridText(step, frame) {
    return `grid:${step}@${frame}`;
  }
  parameters(queries) {
    return new URLSearchParams({ queries, answer: this.number });
  }
}

class Stored {
  constructor(number, scene, sets) {
    Object.assign(this, { number, scene, sets, exact: false });
  }
  async load() {  // the tracks of a file that the server has
    this.sets ??= [tracksOf(await ask(`/tracks?${this.parameters("all")}`))];
    return this.sets;
  }
  async point(t, x, y, row = null) {
    if (row !== null) return (await this.load())[0][row];
    const found = (await this.load()).map((set) => nearest(set, this.scene, t, x, y)).filter((track) => track);
    if (!found.length) throw new Error("no track has a place in this frame");
    return nearest(found, this.scene, t, x, y);
  }
  async grid(step, frame) {
    const away = (set) => Math.abs(set[0].query[0] - frame);
    const sets = await this.load();
    const set = sets.length > 1 ? sets.reduce((best, other) => (away(other) < away(best) ? other : best)) : sets[0];
    return thinned(set, set[0].query[0], step);
  }
  pointText(track) {
    return `track:${track.row}`;
  }
  gridText() {
    return "all";
  }
  parameters(queries) {
    return new URLSearchParams({ queries, answer: this.number });
  }
}

// JSON of the server. Throws an Error with its line.
async function ask(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error("the server does not answer: was view.py ended?");
  });
  const found = await response.json().catch(() => ({ error: `${path}: no readable answer (${response.status})` }));
  if (found.error) throw new Error(found.error);
  return found;
}

class Live {
  saved = false;
  version = 0;  // of the run that images are of
  async open() {
    this.scene = await ask("/scene");
    this.answers = this.scene.answers.map((one, k) => (one.live ? new Asked(k) : new Stored(k, this.scene)));
    return this;
  }
  image(layer, frame) {
    return `/layer/${layer}/${frame}?version=${this.version}`;
  }
  async readPins() {
    const { revision, pins, file } = await ask("/pins");
    Object.assign(this, { revision, file });
    return pins;
  }
  async writePins(pins) {
    const body = JSON.stringify({ revision: this.revision, pins });
    ({ revision: this.revision } = await ask("/pins", { method: "PUT", body }));
  }
}

class Saved {
  saved = true;
  constructor(text) {
    this.scene = JSON.parse(text);
  }
  async open() {
    this.answers = this.scene.tracks.map((sets, k) => new Stored(k, this.scene, sets.map(tracksOf)));
    return this;
  }
  image(layer, frame) {
    return this.scene.images[layer][frame];
  }
}
