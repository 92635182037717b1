// The map: a dot for each image, the decoded plane behind them, and what the pointer does there.
"use strict";

const COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"];
const OWN_COLOR = "#e11d74"; // of dots that the user added
const SNAP = 9; // pixels from a dot at which the pointer is on it
const DRAG = 4; // pixels that a pointer moves at least when it drags
const MAX_THUMBNAILS = 160; // with so few dots in view, they become thumbnails
const THUMBNAIL_SIDE = 30;
const TILE_SIDE = 34; // pixels of an image in the decoded plane, at least
const MAX_TILES = 24; // along the longer side
const TICK_DISTANCE = 70; // pixels between numbers on an axis, at least
const DELAY = 120; // milliseconds until the plane is decoded again

/**
 * The map in an element with two canvases, #points and #overlay.
 *
 * A point is {name, label, z, x, y} with a thumbnail {image, left, top, height, width}. `decode` decodes latents for the plane.
 * `act` is told what happens: hover(z, point or null, place), leave(), choose(z, point or null) and walk(from, to).
 */
class LatentMap {
  constructor(element, points, labelCount, decode, act) {
    Object.assign(this, { element, points, labelCount, decode, act });
    this.plane = new Plane();
    this.canvases = { points: byId("points"), overlay: byId("overlay") };
    this.shows = { points: true, plane: true, hiddenLabels: new Set() };
    this.marks = { z: null, walk: null }; // the latent that is decoded, and the ends of a walk
    this.decoded = null; // the decoded plane: {canvas, left, top, width, height}
    this.fitted = false; // whether all dots are in view because of `fit`
    this.version = 0;
    this.hovered = null;
    this.gesture = null;
    this.touches = new Map();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(element);
    this.resize();
  }

  resize() {
    Object.assign(this.plane, { width: this.element.clientWidth, height: this.element.clientHeight });
    if (this.fitted) this.fit();
    else this.changeView();
  }

  /** Show the plane along two directions, {name, vector}; without a second vector, heights are arbitrary. */
  setDirections(across, up) {
    Object.assign(this.plane, { u: across.vector, v: up.vector ?? across.vector.map(() => 0) });
    this.axes = [across.name, up.vector && up.name];
    this.points.forEach((point, index) => this.place(point, index, !up.vector));
    this.fit();
  }

  place(point, index, scattered = false) {
    const [x, y] = this.plane.project(point.z);
    Object.assign(point, { x, y: scattered ? ((index * 0.618) % 1) * 4 - 2 : y });
  }

  fit() {
    const ranges = ["x", "y"].map((axis) => robustRange(this.points.map((point) => point[axis])));
    // Two dimensions of a VAE are shown over the range that grids have.
    const whole = model.network.variational && model.network.latent_dim === 2;
    this.plane.fit(...ranges.map(([low, high]) => (whole ? [Math.min(low, -3), Math.max(high, 3)] : [low, high])));
    this.fitted = true;
    this.changeView();
  }

  zoom(factor, place) {
    this.fitted = false;
    this.plane.zoom(factor, place);
    this.changeView();
  }

  /** The color of a label. */
  labelColor(label) {
    return this.labelCount <= COLORS.length ? COLORS[label] : `hsl(${(label * 137.5) % 360} 65% 55%)`;
  }

  color(point) {
    return point.own ? OWN_COLOR : point.label < 0 ? COLORS[0] : this.labelColor(point.label);
  }

  isVisible(point) {
    return this.shows.points && !this.shows.hiddenLabels.has(point.label);
  }

  // ---- Drawing

  changeView() {
    this.redraw();
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.decodePlane();
    }, DELAY);
  }

  redraw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.plane.u) return;
      this.drawPoints();
      this.drawOverlay();
    });
  }

  begin(canvas) {
    const { width, height } = this.plane, ratio = devicePixelRatio;
    const size = { width: Math.round(width * ratio), height: Math.round(height * ratio) };
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  drawPoints() {
    const context = this.begin(this.canvases.points), { width, height, scale } = this.plane;
    const onPlane = this.decoded && this.shows.plane;
    if (onPlane) {
      const { canvas, x, y, across, down } = this.decoded;
      context.imageSmoothingEnabled = false;
      context.drawImage(canvas, ...this.plane.toScreen(x, y), across * scale, down * scale);
      context.fillStyle = "rgb(128 128 128 / 25%)"; // on which dots of all colors can be seen
      context.fillRect(0, 0, width, height);
    }
    const inView = [];
    for (const point of this.points) {
      if (!this.isVisible(point)) continue;
      const [left, top] = this.plane.toScreen(point.x, point.y);
      if (Math.abs(left - width / 2) < width / 2 + THUMBNAIL_SIDE && Math.abs(top - height / 2) < height / 2 + THUMBNAIL_SIDE)
        inView.push([point, left, top]);
    }
    const radius = (inView.length > 3000 ? 2 : inView.length > 600 ? 2.6 : 3.5) - (onPlane ? 0.6 : 0);
    const dots = new Map(); // by color: one path is drawn far faster than many
    for (const [point, left, top] of inView) {
      const color = this.color(point);
      if (inView.length <= MAX_THUMBNAILS || point.own) {
        context.fillStyle = color;
        drawThumbnail(context, point, left, top);
      } else {
        const path = dots.get(color) ?? new Path2D();
        dots.set(color, path);
        path.moveTo(left + radius, top);
        path.arc(left, top, radius, 0, 7);
      }
    }
    context.globalAlpha = onPlane ? 0.75 : 1; // what is decoded shows through
    for (const [color, path] of dots) {
      context.fillStyle = color;
      context.fill(path);
    }
    context.globalAlpha = 1;
    this.drawAxes(context);
  }

  /** Draw the names of the axes, numbers along two edges, and lines through 0. */
  drawAxes(context) {
    const { plane, axes: [across, up] } = this, { width, height } = plane;
    const { color, backgroundColor } = getComputedStyle(this.element);
    Object.assign(context, { font: "600 13px system-ui, sans-serif", lineWidth: 4, lineJoin: "round", strokeStyle: backgroundColor, fillStyle: color });
    const write = (text, left, top, align) => {
      context.textAlign = align;
      context.strokeText(text, left, top);
      context.fillText(text, left, top);
    };
    const [x, y] = plane.fromScreen(0, height), [right, top] = plane.fromScreen(width, 0);
    const ticks = (low, high) => axisTicks(low, high, TICK_DISTANCE / plane.scale);
    const [left0, top0] = plane.toScreen(0, 0);
    context.globalAlpha = 0.3;
    context.fillRect(left0, 0, 1, height);
    if (up) context.fillRect(0, top0, width, 1);
    context.globalAlpha = 1;
    for (const value of ticks(x, right)) {
      const left = plane.toScreen(value, 0)[0];
      if (left > 30 && left < width - 30) write(formatTick(value), left, height - 20, "center");
    }
    write(`${across} →`, width / 2, height - 5, "center");
    if (!up) return;
    for (const value of ticks(y, top)) {
      const place = plane.toScreen(0, value)[1];
      if (place > 30 && place < height - 40) write(formatTick(value), 6, place + 4, "left");
    }
    write(`↑ ${up}`, 6, 16, "left");
  }

  drawOverlay() {
    const context = this.begin(this.canvases.overlay);
    const screen = (z) => this.plane.toScreen(...this.plane.project(z));
    const { gesture, hovered, marks } = this;
    if (marks.walk) strokeLine(context, screen(marks.walk.from), screen(marks.walk.to));
    if (gesture?.kind === "walk") strokeLine(context, this.plane.toScreen(gesture.from.x, gesture.from.y), gesture.at);
    if (hovered) strokeRing(context, this.plane.toScreen(hovered.x, hovered.y), 6, 2);
    if (marks.z) strokeRing(context, screen(marks.z), 5, 3);
  }

  /** Decode the part of the plane that is in view, one row of images after the other. */
  async decodePlane() {
    const version = ++this.version, { plane } = this;
    if (!this.shows.plane || !plane.u || !this.marks.z) return;
    const tile = Math.max(TILE_SIDE, Math.ceil(Math.max(plane.width, plane.height) / MAX_TILES));
    const columns = Math.ceil(plane.width / tile), rows = Math.ceil(plane.height / tile);
    const canvas = new OffscreenCanvas(columns * WIDTH, rows * HEIGHT), context = canvas.getContext("2d");
    const [x, y] = plane.fromScreen(0, 0), step = tile / plane.scale, base = this.marks.z.slice();
    const size = HEIGHT * WIDTH * CHANNELS;
    for (let row = 0; row < rows; row++) {
      const z = new Float32Array(columns * base.length);
      for (let column = 0; column < columns; column++)
        z.set(plane.lift(x + (column + 0.5) * step, y - (row + 0.5) * step, base), column * base.length);
      const pixels = await this.decode(z, columns);
      if (version !== this.version) return;
      for (let column = 0; column < columns; column++)
        context.putImageData(toImageData(pixels.subarray(column * size, (column + 1) * size), HEIGHT, WIDTH), column * WIDTH, row * HEIGHT);
    }
    this.decoded = { canvas, x, y, across: columns * step, down: rows * step };
    this.redraw();
  }

  // ---- The pointer

  nearest(left, top) {
    let best = null, distance = SNAP;
    for (const point of this.points) {
      if (!this.isVisible(point)) continue;
      const [x, y] = this.plane.toScreen(point.x, point.y), found = Math.hypot(x - left, y - top);
      if (found < distance) [best, distance] = [point, found];
    }
    return best;
  }

  locate(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left - this.element.clientLeft, event.clientY - box.top - this.element.clientTop];
  }

  /** The latent at a pixel, of the plane through a base. */
  latentAt(place, base = this.base) {
    return this.plane.lift(...this.plane.fromScreen(...place), base);
  }

  hover(place) {
    this.hovered = this.nearest(...place);
    this.act.hover(this.hovered?.z ?? this.latentAt(place), this.hovered, place);
  }

  leave() {
    this.hovered = null;
    this.act.leave();
  }

  listen() {
    const on = (type, listener, options) => this.element.addEventListener(type, listener, options);
    on("pointerdown", (event) => event.button || this.press(event));
    on("pointermove", (event) => (this.gesture ? this.drag(event) : this.hover(this.locate(event))));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", (event) => this.release(event));
    on("pointerleave", () => this.gesture || this.leave());
    on("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.locate(event));
    }, { passive: false });
  }

  press(event) {
    const at = this.locate(event);
    this.element.setPointerCapture(event.pointerId);
    this.touches.set(event.pointerId, at);
    if (this.touches.size > 1) {
      this.gesture = { kind: "pinch", ...this.spread() };
      return;
    }
    const from = this.nearest(...at);
    // A finger does not hover: moving it over the map decodes.
    const kind = from ? "walk" : event.pointerType === "touch" ? "hover" : "pan";
    this.gesture = { kind, from, start: at, at, moved: false };
  }

  drag(event) {
    const { gesture } = this, at = this.locate(event), before = gesture.at;
    if (!this.touches.has(event.pointerId)) return;
    this.touches.set(event.pointerId, at);
    if (gesture.kind === "pinch") {
      if (this.touches.size < 2) return;
      const now = this.spread();
      this.plane.pan(now.middle[0] - gesture.middle[0], now.middle[1] - gesture.middle[1]);
      this.zoom(now.distance / gesture.distance, now.middle);
      Object.assign(gesture, now);
      return;
    }
    gesture.moved ||= Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) > DRAG;
    if (!gesture.moved) return;
    gesture.at = at;
    if (gesture.kind === "pan") {
      this.fitted = false;
      this.plane.pan(at[0] - before[0], at[1] - before[1]);
      this.changeView();
    } else {
      this.hover(at);
    }
  }

  release(event) {
    const { gesture } = this, at = this.locate(event);
    this.touches.delete(event.pointerId);
    if (this.touches.size) return;
    this.gesture = null;
    if (!gesture || gesture.kind === "pinch" || event.type === "pointercancel") return;
    const found = this.nearest(...at);
    if (gesture.kind === "walk" && gesture.moved) {
      this.leave();
      this.act.walk(gesture.from, found ?? { name: "a point", z: this.latentAt(at, gesture.from.z) });
    } else if (gesture.kind !== "pan" || !gesture.moved) {
      this.act.choose(found?.z ?? this.latentAt(at), found);
    }
  }

  /** How far two fingers are apart, and where their middle is. */
  spread() {
    const [first, second] = this.touches.values();
    const middle = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
    return { distance: Math.max(1, Math.hypot(first[0] - second[0], first[1] - second[1])), middle };
  }
}

/** Round numbers between two, at least `distance` apart. */
function axisTicks(low, high, distance) {
  const power = 10 ** Math.floor(Math.log10(distance));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= distance), first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, index) => (first + index) * step);
}

const formatTick = (value) => String(Number(value.toPrecision(6))).replace("-", "−");

function drawThumbnail(context, point, left, top) {
  const scale = THUMBNAIL_SIDE / Math.max(point.height, point.width);
  const width = point.width * scale, height = point.height * scale;
  context.fillRect(left - width / 2 - 2, top - height / 2 - 2, width + 4, height + 4);
  context.drawImage(point.image, point.left, point.top, point.width, point.height, left - width / 2, top - height / 2, width, height);
}

/** Stroke a path so that it is seen on light and dark. */
function strokeTwice(context, width, trace) {
  for (const [style, line] of [["#fff", width + 2], ["#111", width]]) {
    Object.assign(context, { strokeStyle: style, lineWidth: line });
    context.beginPath();
    trace();
    context.stroke();
  }
}

function strokeLine(context, from, to) {
  strokeTwice(context, 2, () => {
    context.moveTo(...from);
    context.lineTo(...to);
  });
}

function strokeRing(context, [left, top], radius, width) {
  strokeTwice(context, width, () => context.arc(left, top, radius, 0, 7));
}
