// Panes, one for each answer: a canvas with the frame, overlays and the grid, over it an SVG with the points' paths.
//
// A view is {scale, x, y}: CSS pixels per pixel of the video, and where its upper left corner is in the pane.
"use strict";

const COLOURS = ["#ff4d6d", "#4cc9f0", "#ffd166", "#80ed99", "#c77dff", "#ff9f1c", "#2ec4b6", "#f15bb5"];
const CROSS = "M-6-4-4-6 0-2 4-6 6-4 2 0 6 4 4 6 0 2-4 6-6 4-2 0z", DIAMOND = "M0-7 7 0 0 7-7 0z";
const SHARP = 2.5;  // device pixels per pixel of an image, from which on its pixels are shown as squares

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Images of a page's layers; the newest `most` are kept
class Images {
  constructor(source, most = 150) {
    Object.assign(this, { source, most, kept: new Map() });
  }
  get(layer, frame) {  // Promise of an image that can be drawn
    const key = `${layer}/${frame}`;
    if (!this.kept.has(key)) {
      const image = new Image();
      image.src = this.source.image(layer, frame);
      const loaded = image.decode().then(() => image);
      loaded.catch(() => this.kept.delete(key));
      this.kept.set(key, loaded);
      if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(key);
  }
}

class Pane {
  constructor(stage, caption) {
    this.root = document.createElement("div");
    this.root.className = "pane";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Video${caption ? `, ${caption}` : ""}`);
    this.paths = element("g", { class: "paths" });
    this.marks = element("g", { class: "marks" });
    this.svg = element("svg", { class: "over" }, this.paths, this.marks);
    this.root.append(this.canvas, this.svg);
    const text = Object.assign(document.createElement("span"), { className: "caption", textContent: caption });
    if (caption) this.root.append(text);
    stage.append(this.root);
  }
  resize() {
    const { clientWidth, clientHeight } = this.root;
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
  }
  // images: [[image, opacity]], the lowest first; grid: {tracks, colours, length of trails}, or null; smooth: whether
  // enlarged pixels are no squares
  paint(scene, view, frame, images, grid, smooth) {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    for (const [image, opacity] of images) {
      const sharp = (view.scale * devicePixelRatio * scene.width) / image.naturalWidth;
      context.imageSmoothingEnabled = smooth || sharp < SHARP;
      context.imageSmoothingQuality = "high";
      context.globalAlpha = opacity;
      context.drawImage(image, view.x, view.y, scene.width * view.scale, scene.height * view.scale);
    }
    context.globalAlpha = 1;
    if (grid) paintGrid(context, scene, view, frame, grid);
    this.paths.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
  }
  // points: [{id, colour, track, pins, selected}]; from, to: the frames that paths are drawn of
  drawPaths(scene, points, from, to) {
    this.paths.replaceChildren(...points.filter((point) => point.track).map((point) => {
      const group = element("g", { class: point.selected ? "path selected" : "path", "data-id": point.id });
      for (const stretch of stretches(point.track, scene, from, to)) {
        const vertices = [...point.track.place.subarray(2 * stretch.from, 2 * stretch.to + 2)].join(" ");
        group.append(element("polyline", { class: "casing", points: vertices }),
          element("polyline", { class: stretch.state, points: vertices, stroke: point.colour }));
      }
      return group;
    }));
  }
  drawMarks(scene, view, frame, points) {
    const at = (x, y) => `translate(${view.x + x * view.scale} ${view.y + y * view.scale})`;
    this.marks.replaceChildren(...points.flatMap((point) => {
      const { track, colour } = point, marks = [];
      const pin = point.pins.find((one) => one.frame === frame);
      const state = track ? stateOf(track, frame, scene) : "outside";
      const place = track ? [track.place[2 * frame], track.place[2 * frame + 1]] : [0, 0];
      const group = (kind, [x, y], ...shapes) => marks.push(element("g", {
        class: `mark ${kind}${point.selected ? " selected" : ""}`, "data-id": point.id, transform: at(x, y),
      }, ...shapes));
      if (state === "seen") {
        group("seen", place, element("circle", { r: point.selected ? 6 : 5, fill: colour }));
      } else if (state === "hidden") {
        group("hidden", place, element("path", { class: "casing", d: CROSS }),
          element("path", { d: CROSS, stroke: colour, fill: "none" }));
      }
      if (pin) {
        const fill = pin.visible ? colour : "none", inside = state !== "outside";
        const [x2, y2] = [place[0] - pin.x, place[1] - pin.y].map((value) => (inside ? value * view.scale : 0));
        group(pin.visible ? "pin" : "pin unseen", [pin.x, pin.y], element("line", { x2, y2 }),
          element("path", { class: "casing", d: DIAMOND }), element("path", { d: DIAMOND, fill, stroke: colour }));
      }
      return marks;
    }));
  }
}

// The colours of a grid: hue runs along x, lightness along y, over where its points start
function gridColours(tracks) {
  const [low, high] = [Math.min, Math.max].map((pick) =>
    [2, 1].map((axis) => tracks.reduce((value, track) => pick(value, track.query[axis]), tracks[0]?.query[axis] ?? 0)));
  return tracks.map((track) => {
    const [x, y] = [2, 1].map((axis, k) => (track.query[axis] - low[k]) / Math.max(high[k] - low[k], 1e-6));
    return `hsl(${310 * x} 95% ${72 - 22 * y}%)`;
  });
}

// Discs where points are seen, small crosses where they are hidden, and fading trails
function paintGrid(context, scene, view, frame, { tracks, colours, length }) {
  const x = (track, k) => view.x + track.place[2 * k] * view.scale;
  const y = (track, k) => view.y + track.place[2 * k + 1] * view.scale;
  const radius = Math.min(4, Math.max(1.2, 0.006 * Math.hypot(scene.width, scene.height) * view.scale));
  context.lineWidth = Math.max(1, 0.6 * radius);
  tracks.forEach((track, q) => {
    context.strokeStyle = context.fillStyle = colours[q];
    for (let k = Math.max(0, frame - length); k < frame; k++) {
      if (stateOf(track, k, scene) !== "seen" || stateOf(track, k + 1, scene) !== "seen") continue;
      context.globalAlpha = 0.1 + 0.75 * (1 - (frame - k) / (length + 1));
      context.beginPath();
      context.moveTo(x(track, k), y(track, k));
      context.lineTo(x(track, k + 1), y(track, k + 1));
      context.stroke();
    }
    context.globalAlpha = 1;
    const state = stateOf(track, frame, scene);
    if (state === "outside") return;
    const [cx, cy] = [x(track, frame), y(track, frame)];
    context.beginPath();
    if (state === "seen") {
      context.arc(cx, cy, radius, 0, 2 * Math.PI);
      context.fill();
    } else {
      for (const [dx, dy] of [[1, 1], [1, -1]]) {
        context.moveTo(cx - dx * radius, cy - dy * radius);
        context.lineTo(cx + dx * radius, cy + dy * radius);
      }
      context.stroke();
    }
  });
}

// Visibility, confidence and depth of a track, a bar for each frame -> [element]
function strips(track, scene, pins) {
  const frames = [...Array(scene.num_frames).keys()], known = track.depth.filter((value) => Number.isFinite(value));
  const [near, far] = [Math.min(...known), Math.max(...known)];
  const pinned = new Set(pins.map((pin) => pin.frame));
  const row = (name, note, height, kind = () => "") => {
    const bars = frames.map((k) => element("rect", {
      class: `${kind(k)}${pinned.has(k) ? " pinned" : ""}`, x: k, width: 1, y: 1 - height(k), height: height(k),
    }));
    const drawn = element("svg", {
      class: name, viewBox: `0 0 ${scene.num_frames} 1`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${name}: ${note}`,
    }, ...bars);
    const label = Object.assign(document.createElement("span"), { textContent: name, title: note });
    const root = Object.assign(document.createElement("div"), { className: "strip" });
    root.append(label, drawn);
    return root;
  };
  const seen = frames.filter((k) => stateOf(track, k, scene) === "seen").length;
  const rows = [
    row("visibility", `seen in ${seen} of ${scene.num_frames} frames; pale: uncertain`, () => 1,
      (k) => `${stateOf(track, k, scene)}${track.score[k] >= 1 / 3 && track.score[k] <= 2 / 3 ? " unsure" : ""}`),
    row("confidence", "that the point is seen, 0 to 1", (k) => Math.max(0.02, 1 - track.score[k])),
  ];
  if (known.length) {
    const range = far - near, flat = range < 1e-4;  // no change worth showing
    const height = (k) => {
      if (!Number.isFinite(track.depth[k])) return 0;
      return flat ? 0.5 : 1 - 0.9 * ((track.depth[k] - near) / range);
    };
    rows.push(row("depth", `high is near; pseudo-depth ${near.toFixed(3)} to ${far.toFixed(3)}`, height));
  }
  return rows;
}
