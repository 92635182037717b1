// What every page needs: the model in it, the engine in a worker, and files in and out.
"use strict";

const byId = (id) => document.getElementById(id);
const model = JSON.parse(byId("model").textContent);
const [HEIGHT, WIDTH, CHANNELS] = model.network.image_shape;

/** Base64 as bytes. */
function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  return Uint8Array.from({ length: binary.length }, (_, index) => binary.charCodeAt(index));
}

/** The arrays of the page by name: floats of 24 bits, as three planes of bytes, compressed. */
async function readTensors() {
  const stream = new Blob([decodeBase64(byId("tensors").textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 3;
  const bits = new Uint32Array(count);
  for (let index = 0; index < count; index++)
    bits[index] = (planes[index] << 24) | (planes[count + index] << 16) | (planes[2 * count + index] << 8);
  const floats = new Float32Array(bits.buffer);
  const tensors = {};
  let start = 0;
  for (const [name, shape] of model.tensors) {
    const size = shape.reduce((left, right) => left * right, 1);
    tensors[name] = floats.subarray(start, start + size);
    start += size;
  }
  return tensors;
}

/** The network in a worker, which runs one tensor after another. */
class Engine {
  constructor(tensors) {
    this.worker = new Worker(URL.createObjectURL(new Blob([byId("engine").textContent], { type: "text/javascript" })));
    this.waiting = new Map();
    this.next = 0;
    this.worker.onmessage = ({ data: { id, tensor, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      error ? reject(new Error(error)) : resolve(tensor);
    };
    this.worker.onerror = ({ message }) => this.waiting.forEach(({ reject }) => reject(new Error(message)));
    const halves = {};
    const experts = (model.experts ?? []).map((_, index) => `experts.${index}.decoder`);
    for (const half of ["encoder", "decoder", ...experts]) {
      const own = Object.entries(tensors).filter(([name]) => name.startsWith(`${half}.`));
      const weights = Object.fromEntries(own.map(([name, values]) => [name.slice(half.length + 1), values.slice()]));
      halves[half] = { layers: model.network[half.split(".").pop()], weights };
    }
    this.worker.postMessage({ wasm: decodeBase64(byId("wasm").textContent), halves });
  }

  run(half, data, shape) {
    const id = this.next++;
    this.worker.postMessage({ id, half, tensor: { data, shape } });
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
}

/** Pixels in [0, 1], of one or three channels, as ImageData; they are rounded to 8 bits as vaectl does. */
function toImageData(pixels, height, width, channels = CHANNELS) {
  const data = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let channel = 0; channel < 3; channel++)
      data.data[4 * pixel + channel] = Math.round(255 * pixels[pixel * channels + (channels === 3 ? channel : 0)]);
    data.data[4 * pixel + 3] = 255;
  }
  return data;
}

/** Draw pixels on a canvas, of which they become the size. */
function drawPixels(canvas, pixels, height = HEIGHT, width = WIDTH, channels = CHANNELS) {
  canvas.height = height;
  canvas.width = width;
  canvas.getContext("2d").putImageData(toImageData(pixels, height, width, channels), 0, 0);
}

/** The bytes of a decoded image on a background: {bytes (RGBA), height, width}. */
async function readImage(file, background = "black") {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not an image that this browser can read: use PNG, JPEG or WebP`);
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = background;
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return { bytes: context.getImageData(0, 0, bitmap.width, bitmap.height).data, height: bitmap.height, width: bitmap.width };
}

/** RGBA bytes as values of 0 to 255 in the channels of the model; gray with Pillow's weights. */
function toChannels(bytes) {
  const values = new Float32Array((bytes.length / 4) * CHANNELS);
  for (let pixel = 0; pixel < bytes.length / 4; pixel++) {
    const [red, green, blue] = [bytes[4 * pixel], bytes[4 * pixel + 1], bytes[4 * pixel + 2]];
    if (CHANNELS === 3) values.set([red, green, blue], 3 * pixel);
    else values[pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return values;
}

/** Save bytes or a blob as a file. */
function download(name, content, type = "application/octet-stream") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Save a canvas as PNG. */
function saveCanvas(name, canvas) {
  canvas.toBlob((blob) => download(name, blob), "image/png");
}

/** Say what went wrong, or that nothing did. */
function tell(problem = "") {
  byId("problem").textContent = problem;
  byId("problem").hidden = !problem;
}

addEventListener("unhandledrejection", ({ reason }) => tell(reason.message));

/** Call `open` with the files that are dropped on the page or chosen with the file button. */
function onFiles(open) {
  const openAll = async (files) => {
    tell();
    for (const file of files) await open(file).catch((error) => tell(error.message));
  };
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    openAll([...event.dataTransfer.files]);
  });
  byId("file").addEventListener("change", () => openAll([...byId("file").files]));
}

/** An element with this text and these attributes. */
function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** List the facts of the model. */
function listFacts() {
  for (const [term, value] of model.facts) byId("facts").append(element("dt", term), element("dd", value));
}
