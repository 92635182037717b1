// The page of a model with a latent: a map of images, and what the decoder draws at the chosen latent.
"use strict";

const D = model.network.latent_dim;
const MANY_SLIDERS = 12;
const WALK_SECONDS = 2.5;
const WALK_STEPS = 30; // of a GIF, there and back
const GIF_SIDE = 256;

const format = (value) => value.toFixed(2).replace("-", "−");
const describe = (z) => `z = (${[...z.slice(0, 4)].map(format).join(", ")}${D > 4 ? ", …" : ""})`;
const { label_names: labelNames } = model.images;
const withLabel = (point) => point.name + (point.label < 0 ? "" : `, ${labelNames[point.label]}`);
/** The dimensions, those that vary most first. */
const byUse = [...model.stats.std.keys()].sort((left, right) => model.stats.std[right] - model.stats.std[left]);

class Explorer {
  constructor(tensors) {
    this.tensors = tensors;
    this.engine = new Engine(tensors);
    const background = new Engine(tensors); // so that the pointer does not wait for the plane
    this.origin = Float32Array.from(model.network.variational ? new Array(D).fill(0) : model.stats.mean);
    this.z = this.origin.slice(); // the chosen latent,
    this.image = null; // the point that it is the latent of, if it is that of one,
    this.lastImage = null;
    this.preview = null; // what is below the pointer if that is on the map: {z, image},
    this.walk = null; // and a walk: {from, to, name}
    this.sliders = new Map();
    this.map = new LatentMap(byId("map"), listPoints(tensors.latents), labelNames.length, (z, count) => decode(background, z, count), {
      hover: (z, point, place) => this.hover(z, point, place),
      leave: () => this.leave(),
      choose: (z, point) => this.choose(z, point),
      walk: (from, to) => this.startWalk(from, to),
    });
  }

  // ---- What is shown

  /** Choose a latent, and the point that it belongs to if there is one. */
  choose(z, image = null, what = "") {
    cancelAnimationFrame(this.playing);
    this.image = image;
    this.lastImage = image ?? this.lastImage;
    byId("back").disabled = !this.lastImage;
    byId("status").textContent = `${image ? `${withLabel(image)}: ` : what}${describe(z)}`;
    this.moveTo(Float32Array.from(z));
    if (D > 2) this.map.changeView(); // the plane goes through z
  }

  moveTo(z) {
    this.z = z;
    this.preview = null;
    this.map.base = z;
    this.show();
  }

  /** Decode what is chosen or below the pointer. While that takes its time, only the latest wish is kept. */
  async show() {
    const shown = this.preview ?? { z: this.z, image: this.image };
    this.map.marks = { z: shown.z, walk: this.walk };
    this.map.redraw();
    for (const [dim, { range, output }] of this.sliders) {
      if (document.activeElement !== range) range.value = shown.z[dim];
      output.textContent = format(shown.z[dim]);
    }
    this.wanted = shown;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted) {
      const { z, image } = this.wanted, hovered = this.wanted === this.preview;
      this.wanted = null;
      const pixels = await decode(this.engine, z, 1);
      drawPixels(byId("decoded"), pixels);
      byId("decoded-caption").textContent = `${image ? "Reconstruction" : "Decoded"}${hovered ? ` below the pointer: ${describe(z)}` : ""}`;
      document.querySelectorAll(".compared").forEach((figure) => (figure.hidden = !this.map.points.length));
      compare(image, pixels);
      document.body.dataset.decoded = Number(document.body.dataset.decoded ?? 0) + 1;
    }
    this.busy = false;
  }

  hover(z, point, place) {
    this.preview = { z: Float32Array.from(z), image: point };
    showTip(point, place, this.map.plane);
    this.show();
  }

  leave() {
    this.preview = null;
    showTip(null);
    this.show();
  }

  // ---- Ways to choose a latent

  sample() {
    const label = byId("sample-label").value;
    this.choose(sampleLatent(this.tensors, label), null, label ? `A sample of ${label}: ` : "A sample of the prior: ");
  }

  /** Move along the plane by a fortieth of its width. */
  step(across, up) {
    const { plane } = this.map, unit = plane.width / plane.scale / 40, [x, y] = plane.project(this.z);
    this.choose(plane.lift(x + across * unit, y + up * unit, this.z));
  }

  /** Choose the image that is so many after this one. */
  next(offset) {
    const { points } = this.map;
    if (!points.length) return;
    const index = this.image ? points.indexOf(this.image) + offset : offset > 0 ? 0 : -1;
    const point = points.at(index % points.length);
    this.choose(point.z, point);
  }

  makeSliders(dims) {
    const { mean, std } = model.stats;
    for (const dim of dims) {
      const reach = Math.max(4 * std[dim], model.network.variational ? 3 : 1e-3);
      const limits = { min: mean[dim] - reach, max: mean[dim] + reach, step: reach / 250 };
      const range = element("input", "", { type: "range", ...limits }), output = element("output"), label = element("label", `z${dim}`);
      range.addEventListener("input", () => this.choose(this.z.map((value, index) => (index === dim ? Number(range.value) : value))));
      label.append(range, output);
      byId("sliders").append(label);
      this.sliders.set(dim, { range, output });
    }
    byId("more").hidden = this.sliders.size === D;
    this.moveTo(this.z);
  }

  // ---- Walks

  startWalk(from, to) {
    this.walk = { from: from.z, to: to.z };
    byId("walk").hidden = false;
    byId("status").textContent = byId("walk-title").textContent = `Walk from ${from.name} to ${to.name}`;
    this.play();
  }

  walkAt(t) {
    const { from, to } = this.walk;
    return Float32Array.from(from, (value, index) => value + t * (to[index] - value));
  }

  moveWalk(t) {
    byId("walk-position").value = t;
    this.image = null;
    this.moveTo(this.walkAt(t));
  }

  play() {
    cancelAnimationFrame(this.playing);
    const start = performance.now();
    const advance = (now) => {
      const t = Math.min(1, Math.max(0, now - start) / (1000 * WALK_SECONDS));
      this.moveWalk(t);
      if (t < 1) this.playing = requestAnimationFrame(advance);
    };
    this.playing = requestAnimationFrame(advance);
  }

  /** The button and the key W: the first press says where a walk begins, the second where it ends. */
  walkFromOrTo() {
    const here = this.image ?? { name: "a point", z: this.z };
    if (this.walkStart) this.startWalk(this.walkStart, here);
    else byId("status").textContent = `Walk from ${here.name}: choose another image, then press again`;
    this.walkStart = this.walkStart ? null : here;
    byId("walk-here").textContent = this.walkStart ? "Walk to here" : "Walk from here";
  }

  async saveWalk() {
    const there = [...Array(WALK_STEPS).keys()], z = new Float32Array(WALK_STEPS * D);
    for (const step of there) z.set(this.walkAt(step / (WALK_STEPS - 1)), step * D);
    const pixels = await decode(this.engine, z, WALK_STEPS), size = HEIGHT * WIDTH * CHANNELS;
    const frames = there.map((step) => toImageData(pixels.subarray(step * size, (step + 1) * size), HEIGHT, WIDTH));
    download("walk.gif", encodeGif([...frames, ...frames.slice(1, -1).reverse()]), "image/gif");
  }

  // ---- Files

  async openFile(file) {
    if (file.name.endsWith(".npy")) await this.openLatents(file);
    else await this.openImage(file);
    const point = this.map.points.at(-1);
    this.choose(point.z, point);
  }

  async openImage(file) {
    const { bytes, height, width } = await readImage(file);
    const fitted = fitImage(toChannels(bytes), height, width, CHANNELS, HEIGHT, WIDTH, model.fit);
    const pixels = fitted.map((value) => value / 255);
    const { data } = await this.engine.run("encoder", pixels.slice(), [1, HEIGHT, WIDTH, CHANNELS]);
    this.add(file.name, data.slice(0, D), pixels);
  }

  async openLatents(file) {
    const { rows, width, values } = readNpy(await file.arrayBuffer(), file.name);
    if (width !== D)
      throw new Error(`${file.name} holds latents of ${width} dimensions, but this model has ${D}: encode with the same checkpoint`);
    if (!rows || !values.every(Number.isFinite)) throw new Error(`${file.name} is empty, or not all of its numbers are finite`);
    for (let row = 0; row < Math.min(rows, MAX_ROWS); row++) {
      const z = values.slice(row * D, (row + 1) * D);
      this.add(`${file.name}, row ${row}`, z, await decode(this.engine, z, 1));
    }
    if (rows > MAX_ROWS) tell(`${file.name} has ${rows} rows: the first ${MAX_ROWS} are shown`);
  }

  /** Add a point of the user's. */
  add(name, z, pixels) {
    const image = new OffscreenCanvas(WIDTH, HEIGHT);
    image.getContext("2d").putImageData(toImageData(pixels, HEIGHT, WIDTH), 0, 0);
    const point = { name, label: -1, z, image, left: 0, top: 0, height: HEIGHT, width: WIDTH, own: true };
    this.map.place(point, this.map.points.length);
    this.map.points.push(point);
  }
}

/** The images of the page as points of the map. */
function listPoints(latents) {
  const { names, labels, columns, side: [height, width] } = model.images;
  return names.map((name, index) => ({
    name,
    label: labels[index],
    z: latents.subarray(index * D, (index + 1) * D),
    image: byId("sheet"),
    left: (index % columns) * width,
    top: Math.floor(index / columns) * height,
    height,
    width,
  }));
}

/** The pixels of latents (count, D). */
async function decode(engine, z, count) {
  return (await engine.run("decoder", Float32Array.from(z), [count, D])).data;
}

/** Draw a point's image and how far its reconstruction is from it; without a point, neither, in the same place. */
function compare(point, reconstruction) {
  const show = (id, shown) => byId(id).parentElement.classList.toggle("absent", !shown);
  show("original", point);
  show("difference", point);
  if (!point) return;
  const canvas = byId("original"), context = canvas.getContext("2d", { willReadFrequently: true });
  const { image, left, top, height, width } = point;
  Object.assign(canvas, { height, width });
  context.drawImage(image, left, top, width, height, 0, 0, width, height);
  const original = toChannels(context.getImageData(0, 0, width, height).data);
  const comparable = original.length === reconstruction.length; // not with a smaller thumbnail
  show("difference", comparable);
  if (!comparable) return;
  const difference = reconstruction.map((value, index) => Math.abs(value - original[index] / 255));
  drawPixels(byId("difference"), difference);
  const mse = difference.reduce((sum, value) => sum + value * value, 0) / difference.length;
  byId("difference-caption").textContent = `Difference: ${(-10 * Math.log10(mse)).toFixed(1)} dB`;
}

/** Show the image of a point beside the pointer; without a point, nothing. */
function showTip(point, [left, top] = [0, 0], plane = null) {
  const tip = byId("tip"), canvas = byId("tip-image");
  tip.hidden = !point;
  if (!point) return;
  const { image, height, width } = point;
  Object.assign(canvas, { height, width });
  canvas.getContext("2d").drawImage(image, point.left, point.top, width, height, 0, 0, width, height);
  byId("tip-text").textContent = withLabel(point);
  tip.style.left = `${left > plane.width / 2 ? left - tip.offsetWidth - 14 : left + 14}px`;
  tip.style.top = `${top > plane.height / 2 ? top - tip.offsetHeight - 14 : top + 14}px`;
}

/** Frames as an endless GIF, enlarged. */
function encodeGif(frames) {
  const scale = Math.max(1, Math.floor(GIF_SIDE / Math.max(HEIGHT, WIDTH))), width = WIDTH * scale, height = HEIGHT * scale;
  const small = new OffscreenCanvas(WIDTH, HEIGHT), large = new OffscreenCanvas(width, height);
  const context = large.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const gif = gifenc.GIFEncoder();
  for (const frame of frames) {
    small.getContext("2d").putImageData(frame, 0, 0);
    context.drawImage(small, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height), palette = gifenc.quantize(data, 256);
    gif.writeFrame(gifenc.applyPalette(data, palette), width, height, { palette, delay: 70 });
  }
  gif.finish();
  return gif.bytes();
}

// ---- The controls

const addOption = (select, value, text) => select.append(element("option", text, { value }));
const onClick = (id, act) => byId(id).addEventListener("click", act);

/** The choice of two directions for the map. */
function setUpDirections(explorer) {
  const { tensors, map } = explorer, selects = [byId("across"), byId("up")];
  const directions = new Map(); // by name
  if (tensors.pca) ["1st", "2nd"].forEach((nth, at) => directions.set(`${nth} principal component`, tensors.pca.subarray(at * D, (at + 1) * D)));
  for (const dim of D > 2 ? byUse : [...Array(D).keys()]) directions.set(`z${dim}`, Float32Array.from({ length: D }, (_, at) => at === dim));
  if (D === 1) directions.set("nothing", null);
  const names = [...directions.keys()];
  const choose = () => map.setDirections(...selects.map(({ value }) => ({ name: value, vector: directions.get(value) })));
  selects.forEach((select, at) => {
    names.forEach((name) => addOption(select, name, name));
    select.value = names[at];
    select.addEventListener("change", choose);
  });
  choose();
}

/** The labels and their colors; a click hides one. */
function setUpLegend(map) {
  labelNames.forEach((name, label) => {
    const button = element("button", "", { "aria-pressed": "true" }), swatch = element("i"), item = element("li");
    swatch.style.background = map.labelColor(label);
    button.append(swatch, name);
    button.addEventListener("click", () => {
      const { hiddenLabels } = map.shows;
      if (!hiddenLabels.delete(label)) hiddenLabels.add(label);
      button.setAttribute("aria-pressed", String(!hiddenLabels.has(label)));
      map.redraw();
    });
    item.append(button);
    byId("legend").append(item);
  });
}

function setUpControls(explorer) {
  const { map } = explorer, toOrigin = () => explorer.choose(explorer.origin);
  setUpDirections(explorer);
  setUpLegend(map);
  explorer.makeSliders(byUse.slice(0, MANY_SLIDERS));
  byId("more").textContent = `Show all ${D}`;
  onClick("more", () => explorer.makeSliders(byUse.slice(explorer.sliders.size)));

  map.shows.plane = byId("show-plane").checked = D <= 2;
  byId("show-plane").addEventListener("change", ({ target }) => {
    map.shows.plane = target.checked;
    map.changeView();
  });
  byId("show-images").addEventListener("change", ({ target }) => {
    map.shows.points = target.checked;
    map.redraw();
  });
  onClick("zoom-in", () => map.zoom(1.4));
  onClick("zoom-out", () => map.zoom(1 / 1.4));
  onClick("fit", () => map.fit());

  onClick("sample", () => explorer.sample());
  byId("sample").hidden = !model.prior && !model.network.variational;
  const priorLabels = model.prior?.labels ?? [];
  byId("sample-label-box").hidden = !priorLabels.length;
  addOption(byId("sample-label"), "", "any label");
  for (const label of priorLabels) addOption(byId("sample-label"), label, label);

  byId("origin").textContent = model.network.variational ? "Origin" : "Mean";
  onClick("origin", toOrigin);
  onClick("back", () => explorer.choose(explorer.lastImage.z, explorer.lastImage));
  onClick("save-image", () => saveCanvas("image.png", byId("decoded")));
  onClick("save-latent", () => download("latent.npy", writeNpy(explorer.z)));
  onClick("walk-here", () => explorer.walkFromOrTo());
  onClick("walk-play", () => explorer.play());
  onClick("save-walk", () => explorer.saveWalk());
  byId("walk-position").addEventListener("input", ({ target }) => {
    cancelAnimationFrame(explorer.playing);
    explorer.moveWalk(Number(target.value));
  });

  const keys = {
    ArrowLeft: () => explorer.step(-1, 0), ArrowRight: () => explorer.step(1, 0), ArrowUp: () => explorer.step(0, 1), ArrowDown: () => explorer.step(0, -1),
    n: () => explorer.next(1), p: () => explorer.next(-1), w: () => explorer.walkFromOrTo(), s: () => explorer.sample(), 0: toOrigin,
    "+": () => map.zoom(1.25), "=": () => map.zoom(1.25), "-": () => map.zoom(0.8),
  };
  byId("map").addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  onFiles((file) => explorer.openFile(file));
}

async function main() {
  byId("lead").textContent = model.lead;
  listFacts();
  drawCurves();
  if (model.images.names.length) await byId("sheet").decode();
  const explorer = new Explorer(await readTensors());
  setUpControls(explorer);
  const [first] = explorer.map.points;
  explorer.choose(first?.z ?? explorer.origin, first);
  explorer.map.changeView();
  document.body.dataset.ready = "true";
}

main();
