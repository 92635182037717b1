// The page of a model with a latent: a map of images, and the decoder below the pointer.
"use strict";

const D = model.network.latent_dim;
const COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"];
const SNAP = 9; // pixels from a dot at which the pointer is on it
const MANY_SLIDERS = 12;
const TILE_SIDE = 34; // pixels of an image in the decoded plane, at least
const THUMBNAILS = 160; // with so few dots in view, they become thumbnails

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
const format = (value) => value.toFixed(2).replace("-", "−");
const describe = (z) => `z = (${[...z.slice(0, 4)].map(format).join(", ")}${D > 4 ? ", …" : ""})`;

async function main() {
  const tensors = await readTensors();
  const live = new Engine(tensors);
  const background = new Engine(tensors);
  const sheet = byId("sheet");
  await sheet.decode().catch(() => {}); // a page without images has none

  const { names, labels, label_names: labelNames, columns, side } = model.images;
  const points = names.map((name, index) => ({
    name,
    label: labels[index],
    z: tensors.latents.subarray(index * D, (index + 1) * D),
    image: sheet,
    left: (index % columns) * side[1],
    top: Math.floor(index / columns) * side[0],
    height: side[0],
    width: side[1],
  }));

  const origin = Float32Array.from(model.network.variational ? new Array(D).fill(0) : model.stats.mean);
  // z: what is decoded; `image`: the point it came from, if it did; `preview`: a z below the pointer, which passes.
  const state = { z: origin.slice(), image: null, preview: null, walk: null, hidden: new Set() };

  // ---- The plane of the map: z = base + (x - u.z) u + (y - v.z) v, for two directions u and v.

  const axes = { u: null, v: null };
  const view = { x: 0, y: 0, scale: 60 }; // the center, and pixels per unit

  function direction(choice) {
    if (choice.startsWith("pc")) return tensors.pca.subarray(Number(choice.slice(2)) * D, (Number(choice.slice(2)) + 1) * D);
    const unit = new Float32Array(D);
    if (choice !== "none") unit[Number(choice)] = 1;
    return unit;
  }

  function setAxes() {
    axes.u = direction(byId("across").value);
    axes.v = direction(byId("up").value);
    points.forEach(place);
    fit();
  }

  /** Compute where a point is on the map; with one dimension, its height is arbitrary. */
  function place(point, index) {
    point.x = dot(axes.u, point.z);
    point.y = byId("up").value === "none" ? ((index * 0.618) % 1) * 4 - 2 : dot(axes.v, point.z);
  }

  function onPlane(x, y, base = state.z) {
    const dx = x - dot(axes.u, base), dy = y - dot(axes.v, base);
    return base.map((value, index) => value + dx * axes.u[index] + dy * axes.v[index]);
  }

  function fit() {
    const extent = (values) => {
      const sorted = Float32Array.from(values).sort();
      const low = sorted[Math.floor(0.005 * (sorted.length - 1))] ?? 0, high = sorted[Math.ceil(0.995 * (sorted.length - 1))] ?? 0;
      return model.network.variational && D === 2 ? [Math.min(low, -3), Math.max(high, 3)] : [Math.min(low, high - 1), high];
    };
    const [left, right] = extent(points.map((point) => point.x)), [bottom, top] = extent(points.map((point) => point.y));
    const { width, height } = size();
    Object.assign(view, { x: (left + right) / 2, y: (bottom + top) / 2 });
    view.scale = 0.94 * Math.min(width / (right - left), height / (top - bottom));
    changeView();
  }

  // ---- Drawing

  const map = byId("map");
  const pointsCanvas = byId("points"), overlay = byId("overlay");
  let mapSize = { width: map.clientWidth, height: map.clientHeight };
  const size = () => mapSize;
  const toScreen = (x, y) => [size().width / 2 + (x - view.x) * view.scale, size().height / 2 - (y - view.y) * view.scale];
  const toPlane = (left, top) => [view.x + (left - size().width / 2) / view.scale, view.y - (top - size().height / 2) / view.scale];
  const color = (point) => (point.own ? "#e11d74" : point.label < 0 ? COLORS[0] : labelColor(point.label));
  const labelColor = (label) => (labelNames.length <= COLORS.length ? COLORS[label] : `hsl(${(label * 137.5) % 360} 65% 55%)`);
  const visible = (point) => byId("show-images").checked && !state.hidden.has(point.label);

  let pending = false;
  function redraw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      drawPoints();
      drawOverlay();
    });
  }

  function begin(canvas) {
    const { width, height } = size(), ratio = devicePixelRatio;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  function drawPoints() {
    const context = begin(pointsCanvas), { width, height } = size();
    if (plane.canvas && byId("show-plane").checked) {
      const [left, top] = toScreen(plane.left, plane.top);
      context.imageSmoothingEnabled = false;
      context.drawImage(plane.canvas, left, top, plane.width * view.scale, plane.height * view.scale);
      context.fillStyle = "rgb(128 128 128 / 25%)";
      context.fillRect(0, 0, width, height);
    }
    const inView = [];
    for (const point of points) {
      if (!visible(point)) continue;
      const [left, top] = toScreen(point.x, point.y);
      if (left > -30 && left < width + 30 && top > -30 && top < height + 30) inView.push([point, left, top]);
    }
    const radius = inView.length > 3000 ? 2 : inView.length > 600 ? 2.6 : 3.5;
    const asImages = inView.length <= THUMBNAILS;
    const dots = new Map(); // by color: one path is drawn far faster than many
    for (const [point, left, top] of inView) {
      if (asImages || point.own) {
        context.fillStyle = color(point);
        drawThumbnail(context, point, left, top, 30);
      } else {
        const path = dots.get(color(point)) ?? new Path2D();
        dots.set(color(point), path);
        path.moveTo(left + radius, top);
        path.arc(left, top, radius, 0, 7);
      }
    }
    for (const [style, path] of dots) {
      context.fillStyle = style;
      context.fill(path);
    }
  }

  function drawThumbnail(context, point, left, top, longest) {
    const scale = longest / Math.max(point.height, point.width);
    const [width, height] = [point.width * scale, point.height * scale];
    context.fillRect(left - width / 2 - 2, top - height / 2 - 2, width + 4, height + 4);
    context.drawImage(point.image, point.left, point.top, point.width, point.height, left - width / 2, top - height / 2, width, height);
  }

  function ring(context, [left, top], radius, width = 2) {
    for (const [style, line] of [["#fff", width + 2], ["#111", width]]) {
      context.strokeStyle = style;
      context.lineWidth = line;
      context.beginPath();
      context.arc(left, top, radius, 0, 7);
      context.stroke();
    }
  }

  function drawOverlay() {
    const context = begin(overlay);
    const line = (from, to) => {
      for (const [style, width] of [["#fff", 4], ["#111", 2]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(...from);
        context.lineTo(...to);
        context.stroke();
      }
    };
    const at = (z) => toScreen(dot(axes.u, z), dot(axes.v, z));
    const place = (point) => toScreen(point.x, point.y);
    if (state.walk) line(at(state.walk.from), at(state.walk.to));
    if (gesture?.kind === "walk") line(place(gesture.from), gesture.at);
    if (hovered) ring(context, place(hovered), 6);
    ring(context, state.image && !state.preview ? place(state.image) : at(state.preview ?? state.z), 5, 3);
  }

  // ---- The decoded plane behind the dots, computed while nothing else happens

  const plane = { canvas: null, left: 0, top: 0, width: 0, height: 0, version: 0 };

  async function decodePlane() {
    const version = ++plane.version;
    if (!byId("show-plane").checked) return;
    const { width, height } = size();
    const tile = Math.max(TILE_SIDE, Math.ceil(Math.max(width, height) / 24));
    const across = Math.ceil(width / tile), down = Math.ceil(height / tile);
    const canvas = new OffscreenCanvas(across * WIDTH, down * HEIGHT), context = canvas.getContext("2d");
    const [left, top] = toPlane(0, 0);
    const step = tile / view.scale;
    const base = state.z.slice();
    for (let row = 0; row < down; row++) {
      const z = new Float32Array(across * D);
      for (let column = 0; column < across; column++)
        z.set(onPlane(left + (column + 0.5) * step, top - (row + 0.5) * step, base), column * D);
      const { data } = await background.run("decoder", z, [across, D]);
      if (version !== plane.version) return;
      for (let column = 0; column < across; column++) {
        const pixels = data.subarray(column * HEIGHT * WIDTH * CHANNELS, (column + 1) * HEIGHT * WIDTH * CHANNELS);
        context.putImageData(toImageData(pixels, HEIGHT, WIDTH), column * WIDTH, row * HEIGHT);
      }
    }
    Object.assign(plane, { canvas, left, top, width: across * step, height: down * step });
    document.body.dataset.planes = version;
    redraw();
  }

  let planeTimer = 0;
  function changeView() {
    redraw();
    planeTimer ||= setTimeout(() => { planeTimer = 0; decodePlane(); }, 120);
  }

  // ---- The panel

  let latest = null, busy = false;
  /** Decode the latest of the latents that are asked for. */
  async function decodeLatest(z) {
    latest = z;
    if (busy) return;
    busy = true;
    while (latest) {
      const current = latest;
      latest = null;
      const { data } = await live.run("decoder", Float32Array.from(current), [1, D]);
      drawPixels(byId("decoded"), data);
      drawDifference(data);
      document.body.dataset.decoded = Number(document.body.dataset.decoded ?? 0) + 1;
    }
    busy = false;
  }

  function show(z) {
    decodeLatest(z);
    redraw();
  }

  function drawDifference(decoded) {
    const comparing = state.image !== null && !state.preview && !walking();
    document.querySelectorAll(".compared").forEach((figure) => (figure.hidden = !comparing));
    byId("decoded-caption").textContent = comparing ? "Reconstruction" : "Decoded";
    if (!comparing) return;
    const point = state.image, canvas = byId("original");
    canvas.height = point.height;
    canvas.width = point.width;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(point.image, point.left, point.top, point.width, point.height, 0, 0, point.width, point.height);
    byId("difference").parentElement.hidden = point.height !== HEIGHT || point.width !== WIDTH;
    const original = toChannels(context.getImageData(0, 0, point.width, point.height).data);
    if (original.length !== decoded.length) return;
    const difference = decoded.map((value, index) => Math.abs(value - original[index] / 255));
    drawPixels(byId("difference"), difference);
    const mse = difference.reduce((sum, value) => sum + value * value, 0) / difference.length;
    byId("difference-caption").textContent = `Difference: ${(-10 * Math.log10(mse)).toFixed(1)} dB`;
  }

  const labelOf = (point) => (point.label < 0 ? "" : `, ${labelNames[point.label]}`);

  /** Make z the latent that everything shows, with the image it came from if there is one. */
  function pin(z, image = null, what = "") {
    Object.assign(state, { z: Float32Array.from(z), image, preview: null });
    byId("status").textContent = `${what || (image ? `${image.name}${labelOf(image)}: ` : "")}${describe(z)}`;
    byId("back").disabled = !(lastImage = image ?? lastImage);
    updateSliders();
    if (D > 2) changeView(); // the plane goes through z
    show(state.z);
  }
  let lastImage = null;

  // ---- Sliders

  const order = [...model.stats.std.keys()].sort((left, right) => model.stats.std[right] - model.stats.std[left]);
  const sliders = new Map();
  function makeSliders(dims) {
    for (const dim of dims) {
      const { mean, std } = model.stats;
      const reach = Math.max(4 * std[dim], model.network.variational ? 3 : 1e-3);
      const [low, high] = [mean[dim] - reach, mean[dim] + reach];
      const range = element("input", "", { type: "range", min: low, max: high, step: (high - low) / 500 });
      const label = element("label", `z${dim}`), output = element("output");
      range.addEventListener("input", () => {
        state.z[dim] = Number(range.value);
        pin(state.z);
      });
      label.append(range, output);
      byId("sliders").append(label);
      sliders.set(dim, { range, output });
    }
    byId("more").hidden = sliders.size === D;
    byId("more").textContent = `Show all ${D}`;
  }

  function updateSliders() {
    for (const [dim, { range, output }] of sliders) {
      if (document.activeElement !== range) range.value = state.z[dim];
      output.textContent = format(state.z[dim]);
    }
  }

  // ---- Sampling from the prior

  function sample() {
    const label = byId("sample-label").value;
    pin(sampleLatent(tensors, label), null, label ? `A sample of ${label}: ` : "A sample of the prior: ");
  }

  // ---- Walks

  const walking = () => state.walk !== null && state.walk.position !== null;
  const walkAt = (t) => state.walk.from.map((value, index) => value + t * (state.walk.to[index] - value));

  function startWalk(from, to) {
    state.walk = { from: from.z, to: to.z, position: 0 };
    byId("walk").hidden = false;
    byId("walk-title").textContent = `Walk from ${from.name} to ${to.name}`;
    byId("status").textContent = byId("walk-title").textContent;
    play();
  }

  function moveWalk(t) {
    state.walk.position = t;
    byId("walk-position").value = t;
    state.preview = null;
    state.image = null;
    state.z = walkAt(t);
    updateSliders();
    show(state.z);
  }

  let playing = 0;
  function play() {
    cancelAnimationFrame(playing);
    const start = performance.now();
    const step = (now) => {
      const t = Math.min(1, (now - start) / 2500);
      moveWalk(t);
      if (t < 1) playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
  }

  async function saveWalk() {
    const steps = 30, there = [...Array(steps).keys()], frames = [...there, ...there.slice(1, -1).reverse()];
    const z = new Float32Array(steps * D);
    for (let step = 0; step < steps; step++) z.set(walkAt(step / (steps - 1)), step * D);
    const { data } = await live.run("decoder", z, [steps, D]);
    const scale = Math.max(1, Math.floor(256 / Math.max(HEIGHT, WIDTH)));
    const small = new OffscreenCanvas(WIDTH, HEIGHT), large = new OffscreenCanvas(WIDTH * scale, HEIGHT * scale);
    const context = large.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    const gif = gifenc.GIFEncoder();
    for (const frame of frames) {
      const pixels = data.subarray(frame * HEIGHT * WIDTH * CHANNELS, (frame + 1) * HEIGHT * WIDTH * CHANNELS);
      small.getContext("2d").putImageData(toImageData(pixels, HEIGHT, WIDTH), 0, 0);
      context.drawImage(small, 0, 0, large.width, large.height);
      const { data: colors } = context.getImageData(0, 0, large.width, large.height);
      const palette = gifenc.quantize(colors, 256);
      gif.writeFrame(gifenc.applyPalette(colors, palette), large.width, large.height, { palette, delay: 70 });
    }
    gif.finish();
    download("walk.gif", gif.bytes(), "image/gif");
  }

  // ---- The pointer

  let hovered = null, gesture = null;
  const touches = new Map();

  function nearest(left, top) {
    let best = null, distance = SNAP;
    for (const point of points) {
      if (!visible(point)) continue;
      const [x, y] = toScreen(point.x, point.y), found = Math.hypot(x - left, y - top);
      if (found < distance) [best, distance] = [point, found];
    }
    return best;
  }

  function locate(event) {
    const box = map.getBoundingClientRect();
    return [event.clientX - box.left - map.clientLeft, event.clientY - box.top - map.clientTop];
  }

  function hover([left, top]) {
    hovered = nearest(left, top);
    state.preview = hovered ? Float32Array.from(hovered.z) : onPlane(...toPlane(left, top));
    const tip = byId("tip");
    tip.hidden = !hovered;
    if (hovered) {
      const canvas = byId("tip-image");
      canvas.width = hovered.width;
      canvas.height = hovered.height;
      const box = [hovered.left, hovered.top, hovered.width, hovered.height];
      canvas.getContext("2d").drawImage(hovered.image, ...box, 0, 0, hovered.width, hovered.height);
      byId("tip-text").textContent = `${hovered.name}${labelOf(hovered)}`;
      const { width, height } = size();
      tip.style.left = `${left > width / 2 ? left - tip.offsetWidth - 14 : left + 14}px`;
      tip.style.top = `${top > height / 2 ? top - tip.offsetHeight - 14 : top + 14}px`;
    }
    show(state.preview);
  }

  function leave() {
    hovered = null;
    state.preview = null;
    byId("tip").hidden = true;
    show(state.z);
  }

  function zoom(factor, [left, top] = [size().width / 2, size().height / 2]) {
    const [x, y] = toPlane(left, top);
    view.scale *= factor;
    view.x = x - (left - size().width / 2) / view.scale;
    view.y = y + (top - size().height / 2) / view.scale;
    changeView();
  }

  const spread = () => {
    const [first, second] = touches.values();
    return { distance: Math.hypot(first[0] - second[0], first[1] - second[1]), middle: [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2] };
  };

  map.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const at = locate(event);
    try { map.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    touches.set(event.pointerId, at);
    if (touches.size === 2) {
      gesture = { kind: "pinch", ...spread() };
      return;
    }
    const from = nearest(...at);
    // A finger has no hover: moving it over the map decodes.
    const kind = from ? "walk" : event.pointerType === "touch" ? "hover" : "pan";
    gesture = { kind, from, start: at, at, x: view.x, y: view.y, moved: false };
  });

  map.addEventListener("pointermove", (event) => {
    const at = locate(event);
    if (!gesture) {
      hover(at);
      return;
    }
    touches.set(event.pointerId, at);
    if (gesture.kind === "pinch") {
      if (touches.size < 2) return;
      const now = spread();
      view.x -= (now.middle[0] - gesture.middle[0]) / view.scale;
      view.y += (now.middle[1] - gesture.middle[1]) / view.scale;
      zoom(now.distance / gesture.distance, now.middle);
      Object.assign(gesture, now);
      return;
    }
    gesture.moved ||= Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) > 4;
    gesture.at = at;
    if (!gesture.moved) return;
    if (gesture.kind === "pan") {
      view.x = gesture.x - (at[0] - gesture.start[0]) / view.scale;
      view.y = gesture.y + (at[1] - gesture.start[1]) / view.scale;
      changeView();
    } else {
      hover(at);
    }
  });

  const release = (event) => {
    touches.delete(event.pointerId);
    const ended = gesture;
    if (touches.size === 0) gesture = null;
    if (!ended || ended.kind === "pinch" || event.type === "pointercancel") return;
    const at = locate(event), found = nearest(...at);
    if (ended.kind === "walk" && ended.moved) {
      const [x, y] = toPlane(...at);
      leave();
      startWalk(ended.from, found ?? { name: "a point", z: onPlane(x, y, ended.from.z) });
    } else if (!ended.moved || ended.kind === "hover") {
      choose(found ?? { z: onPlane(...toPlane(...at)) });
    }
    redraw();
  };
  map.addEventListener("pointerup", release);
  map.addEventListener("pointercancel", release);
  map.addEventListener("pointerleave", () => gesture || leave());
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), locate(event));
  }, { passive: false });

  /** Pin a point of the map, or a dot. */
  function choose(point) {
    if (state.walk) state.walk.position = null;
    pin(point.z, point.name ? point : null);
  }

  // ---- Keys

  let walkStart = null;
  function walkFromOrTo() {
    const here = state.image ?? { name: "a point", z: state.z.slice() };
    if (walkStart) startWalk(walkStart, here);
    else byId("status").textContent = `Walk from ${here.name}: choose another image, then press again`;
    walkStart = walkStart ? null : here;
    byId("walk-here").textContent = walkStart ? "Walk to here" : "Walk from here";
  }

  function step(across, up) {
    const { width } = size(), unit = width / view.scale / 40;
    choose({ z: onPlane(dot(axes.u, state.z) + across * unit, dot(axes.v, state.z) + up * unit) });
  }

  function next(offset) {
    if (!points.length) return;
    const index = state.image ? points.indexOf(state.image) + offset : offset > 0 ? 0 : -1;
    choose(points.at(index % points.length));
  }

  const KEYS = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1),
    n: () => next(1), p: () => next(-1), w: walkFromOrTo, s: sample, 0: () => choose({ z: origin }),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
  };
  map.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  // ---- Files

  async function openFile(file) {
    if (file.name.endsWith(".npy")) {
      const { rows, width, values } = readNpy(await file.arrayBuffer(), file.name);
      if (width !== D)
        throw new Error(`${file.name} holds latents of ${width} dimensions, but this model has ${D}: encode with the same checkpoint`);
      if (!rows) throw new Error(`${file.name} is empty`);
      for (let row = 0; row < Math.min(rows, MAX_ROWS); row++) {
        const z = values.slice(row * D, (row + 1) * D);
        const { data } = await live.run("decoder", z, [1, D]);
        add(`${file.name}, row ${row}`, z, data);
      }
      if (rows > MAX_ROWS) tell(`${file.name} has ${rows} rows: the first ${MAX_ROWS} are shown`);
    } else {
      const { bytes, height, width } = await readImage(file);
      const fitted = fitImage(toChannels(bytes), height, width, CHANNELS, HEIGHT, WIDTH, model.fit);
      const pixels = fitted.map((value) => value / 255);
      const { data } = await live.run("encoder", pixels, [1, HEIGHT, WIDTH, CHANNELS]);
      add(file.name, data.slice(0, D), pixels);
    }
    choose(points.at(-1));
  }

  /** Add a dot of the user's. */
  function add(name, z, pixels) {
    const image = new OffscreenCanvas(WIDTH, HEIGHT);
    image.getContext("2d").putImageData(toImageData(pixels, HEIGHT, WIDTH), 0, 0);
    const point = { name, label: -1, z, image, left: 0, top: 0, height: HEIGHT, width: WIDTH, own: true };
    place(point, points.length);
    points.push(point);
    redraw();
  }

  // ---- Everything else on the page

  function option(select, value, text) {
    select.append(element("option", text, { value }));
  }

  function makeAxes() {
    const choices = [];
    if (D > 2 && tensors.pca) choices.push(["pc0", "1st principal component"], ["pc1", "2nd principal component"]);
    for (const dim of D > 2 ? order : [...Array(D).keys()]) choices.push([String(dim), `z${dim}`]);
    if (D === 1) choices.push(["none", "nothing"]);
    for (const select of [byId("across"), byId("up")]) {
      for (const [value, text] of choices) option(select, value, text);
      select.addEventListener("change", setAxes);
    }
    byId("across").value = choices[0][0];
    byId("up").value = choices[1][0];
  }

  function makeLegend() {
    if (labelNames.length > 60) return;
    labelNames.forEach((name, label) => {
      const button = element("button", "", { "aria-pressed": "true" }), swatch = element("i");
      swatch.style.background = labelColor(label);
      button.append(swatch, name);
      button.addEventListener("click", () => {
        state.hidden.has(label) ? state.hidden.delete(label) : state.hidden.add(label);
        button.setAttribute("aria-pressed", String(!state.hidden.has(label)));
        redraw();
      });
      const item = element("li");
      item.append(button);
      byId("legend").append(item);
    });
  }

  byId("lead").textContent = model.lead;
  listFacts();
  drawCurves();
  makeAxes();
  makeLegend();
  makeSliders(order.slice(0, MANY_SLIDERS));
  byId("more").addEventListener("click", () => makeSliders(order.slice(sliders.size)));
  byId("show-plane").checked = D <= 2;
  byId("show-plane").addEventListener("change", changeView);
  byId("show-images").addEventListener("change", redraw);
  byId("zoom-in").addEventListener("click", () => zoom(1.4));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  byId("fit").addEventListener("click", fit);
  byId("sample").addEventListener("click", sample);
  if (!model.prior && !model.network.variational) byId("sample").hidden = true;
  if (model.prior?.labels.length) {
    byId("sample-label-box").hidden = false;
    option(byId("sample-label"), "", "any label");
    for (const label of model.prior.labels) option(byId("sample-label"), label, label);
  }
  byId("origin").addEventListener("click", () => choose({ z: origin }));
  if (!model.network.variational) byId("origin").textContent = "Mean";
  byId("back").addEventListener("click", () => choose(lastImage));
  byId("save-image").addEventListener("click", () => saveCanvas("image.png", byId("decoded")));
  byId("save-latent").addEventListener("click", () => download("latent.npy", writeNpy(state.z)));
  byId("walk-here").addEventListener("click", walkFromOrTo);
  byId("walk-position").addEventListener("input", () => {
    cancelAnimationFrame(playing);
    moveWalk(Number(byId("walk-position").value));
  });
  byId("walk-play").addEventListener("click", play);
  byId("save-walk").addEventListener("click", saveWalk);
  onFiles(openFile);
  new ResizeObserver(() => {
    mapSize = { width: map.clientWidth, height: map.clientHeight };
    changeView();
  }).observe(map);
  setAxes();
  pin(points.length ? points[0].z : origin, points[0] ?? null);
  document.body.dataset.ready = "true";
}

main();
