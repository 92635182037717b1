// The third engine: runs layers in JavaScript, and their matrix products in WebAssembly, in a worker.
//
// A tensor is {data: Float32Array, shape}; images are (N, height, width, channels), as in the other engines.
"use strict";

const MAX_BAND_VALUES = 1 << 16; // of a matrix of windows, which then stays in the cache
const PAGE_BYTES = 1 << 16; // of WebAssembly's memory

const roundUp = (value, multiple) => Math.ceil(value / multiple) * multiple;
const product = (sizes) => sizes.reduce((left, right) => left * right, 1);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** The tensor with each value replaced by function(value). */
function map(x, f) {
  return { data: x.data.map(f), shape: x.shape };
}

/** Matrix products in WebAssembly with SIMD (multiply.wat). */
class Kernel {
  constructor({ memory, multiply }) {
    Object.assign(this, { memory, product: multiply, end: 0, inputAt: 0, inputSize: 0, outputAt: 0, outputSize: 0 });
  }

  /** The address of new memory for so many floats. */
  allocate(size) {
    const start = this.end;
    this.end += 4 * roundUp(size, 4);
    const missing = this.end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE_BYTES));
    return start;
  }

  floats(start, size) {
    return new Float32Array(this.memory.buffer, start, size);
  }

  /** The weights (outer, inner) and the bias of a layer, as `multiply` takes them. */
  prepare(weight, bias) {
    const outer = bias.length, inner = weight.length / outer, columns = roundUp(outer, 8);
    const start = this.allocate(columns * (inner + 1));
    const packed = this.floats(start, columns * inner); // (columns / 8, inner, 8)
    for (let column = 0; column < outer; column++)
      for (let k = 0; k < inner; k++) packed[((column >> 3) * inner + k) * 8 + (column & 7)] = weight[column * inner + k];
    this.floats(start + 4 * columns * inner, columns).set(bias);
    return { start, outer, inner, columns };
  }

  /** A buffer for so many rows of the left factor of a product with these weights. */
  input({ inner, columns }, rows) {
    const inputSize = roundUp(rows, 4) * inner, outputSize = roundUp(rows, 4) * columns;
    if (this.inputSize < inputSize) Object.assign(this, { inputAt: this.allocate(inputSize), inputSize });
    // Now, because memory that grows takes its views away.
    if (this.outputSize < outputSize) Object.assign(this, { outputAt: this.allocate(outputSize), outputSize });
    return this.floats(this.inputAt, rows * inner);
  }

  /** out = rows of the input times the weights, transposed, plus the bias; it begins at `offset`. */
  multiply({ start, outer, inner, columns }, rows, out, offset) {
    const padded = roundUp(rows, 4);
    this.product(this.inputAt, padded, inner, start, start + 4 * columns * inner, columns, this.outputAt);
    const found = this.floats(this.outputAt, padded * columns);
    if (outer === columns) out.set(found.subarray(0, rows * outer), offset);
    else for (let row = 0; row < rows; row++) out.set(found.subarray(row * columns, row * columns + outer), offset + row * outer);
  }
}

let kernel = null;

function linear(layer, matrix, x) {
  const n = x.shape[0];
  const data = new Float32Array(n * layer.out_features);
  kernel.input(matrix, n).set(x.data);
  kernel.multiply(matrix, n, data, 0);
  return { data, shape: [n, layer.out_features] };
}

/** A convolution as one matrix product per band of output rows, with one matrix row per window (im2col). */
function conv2d(layer, matrix, x) {
  const { kernel_size: size, stride, in_channels: channels, out_channels } = layer;
  const [n, height, width] = x.shape;
  const padding = size >> 1;
  const outHeight = Math.ceil(height / stride), outWidth = Math.ceil(width / stride);
  const inner = size * size * channels;
  const bandRows = Math.max(1, Math.floor(MAX_BAND_VALUES / (outWidth * inner)));
  const windows = kernel.input(matrix, bandRows * outWidth);
  const data = new Float32Array(n * outHeight * outWidth * out_channels);
  for (let image = 0; image < n; image++) {
    for (let top = 0; top < outHeight; top += bandRows) {
      const rows = Math.min(bandRows, outHeight - top);
      let at = 0;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < outWidth; j++) {
          // The pixels of one row of a window are neighbors in memory.
          const left = j * stride - padding;
          const before = Math.max(0, -left) * channels;
          const after = Math.min(size, width - left) * channels;
          for (let k = 0; k < size; k++, at += size * channels) {
            const y = (top + i) * stride - padding + k;
            if (y < 0 || y >= height) {
              windows.fill(0, at, at + size * channels);
              continue;
            }
            const source = ((image * height + y) * width + left) * channels;
            for (let value = 0; value < before; value++) windows[at + value] = 0;
            for (let value = before; value < after; value++) windows[at + value] = x.data[source + value];
            for (let value = Math.max(before, after); value < size * channels; value++) windows[at + value] = 0;
          }
        }
      }
      const offset = (image * outHeight + top) * outWidth * out_channels;
      kernel.multiply(matrix, rows * outWidth, data, offset);
    }
  }
  return { data, shape: [n, outHeight, outWidth, out_channels] };
}

/** The image of this shape whose value at (image, row, column, channel) is that of `x` at index(...). */
function gather(x, shape, index) {
  const data = new Float32Array(product(shape));
  const [n, height, width, channels] = shape;
  let at = 0;
  for (let image = 0; image < n; image++)
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++)
        for (let channel = 0; channel < channels; channel++) data[at++] = x.data[index(image, row, column, channel)];
  return { data, shape };
}

function crop(layer, x) {
  const [n, height, width, channels] = x.shape;
  return gather(x, [n, layer.height, layer.width, channels], (image, row, column, channel) =>
    ((image * height + row) * width + column) * channels + channel);
}

function pixelUnshuffle(factor, x) {
  const [n, height, width, channels] = x.shape, block = factor * factor;
  return gather(x, [n, height / factor, width / factor, channels * block], (image, row, column, channel) => {
    const inBlock = channel % block;
    const y = row * factor + Math.floor(inBlock / factor), z = column * factor + (inBlock % factor);
    return ((image * height + y) * width + z) * channels + Math.floor(channel / block);
  });
}

function pixelShuffle(factor, x) {
  const [n, height, width, channels] = x.shape, block = factor * factor;
  return gather(x, [n, height * factor, width * factor, channels / block], (image, row, column, channel) => {
    const y = Math.floor(row / factor), z = Math.floor(column / factor);
    return ((image * height + y) * width + z) * channels + channel * block + (row % factor) * factor + (column % factor);
  });
}

/** The first half of the channels times the second. */
function gate(x) {
  const [n, height, width, channels] = x.shape, half = channels / 2;
  const data = new Float32Array(x.data.length / 2);
  for (let pixel = 0, at = 0; pixel < n * height * width; pixel++)
    for (let channel = 0; channel < half; channel++, at++)
      data[at] = x.data[pixel * channels + channel] * x.data[pixel * channels + half + channel];
  return { data, shape: [n, height, width, half] };
}

const OPERATIONS = {
  linear,
  conv2d,
  crop: (layer, weights, x) => crop(layer, x),
  pixel_unshuffle: (layer, weights, x) => pixelUnshuffle(layer.downscale_factor, x),
  pixel_shuffle: (layer, weights, x) => pixelShuffle(layer.upscale_factor, x),
  flatten: (layer, weights, x) => ({ data: x.data, shape: [x.shape[0], product(x.shape.slice(1))] }),
  unflatten: (layer, weights, x) => ({ data: x.data, shape: [x.shape[0], layer.height, layer.width, layer.channels] }),
  silu: (layer, weights, x) => map(x, (value) => value * sigmoid(value)),
  relu: (layer, weights, x) => map(x, (value) => Math.max(value, 0)),
  sigmoid: (layer, weights, x) => map(x, sigmoid),
  clip: (layer, weights, x) => map(x, (value) => Math.min(Math.max(value, 0), 1)),
  gate: (layer, weights, x) => gate(x),
  push_skip: (layer, weights, x, skips) => (skips.push(x), x),
  add_skip: (layer, weights, x, skips) => {
    const skip = skips.pop();
    return { data: x.data.map((value, index) => value + skip.data[index]), shape: x.shape };
  },
};

/** The weights of a layer, if it has any, as the kernel takes them: a matrix, for a convolution of windows with the channels last. */
function prepareWeights(layer, index, weights) {
  if (!(`${index}.weight` in weights)) return null;
  const weight = weights[`${index}.weight`], bias = weights[`${index}.bias`];
  if (layer.layer !== "conv2d") return kernel.prepare(weight, bias);
  const channels = layer.in_channels, area = layer.kernel_size ** 2;
  const reordered = Float32Array.from(weight, (_, at) => {
    const channel = at % channels, pixel = Math.floor(at / channels) % area, output = Math.floor(at / (channels * area));
    return weight[(output * channels + channel) * area + pixel];
  });
  return kernel.prepare(reordered, bias);
}

/** A function that runs the layers on a tensor; `weights` are named `<layer>.<name>`. */
function makeForward(layers, weights) {
  const prepared = layers.map((layer, index) => prepareWeights(layer, index, weights));
  return (x) => {
    const skips = [];
    return layers.reduce((tensor, layer, index) => OPERATIONS[layer.layer](layer, prepared[index], tensor, skips), x);
  };
}

// The first message brings {wasm, halves}: the kernel, and the halves of a network, {name: {layers, weights}}; each later one a tensor
// to run through one of them.
let halves = null;
onmessage = ({ data: message }) => {
  if (message.wasm) {
    try {
      kernel = new Kernel(new WebAssembly.Instance(new WebAssembly.Module(message.wasm)).exports);
    } catch {
      return; // said when the first tensor comes
    }
    const make = ([name, { layers, weights }]) => [name, makeForward(layers, weights)];
    halves = Object.fromEntries(Object.entries(message.halves).map(make));
    return;
  }
  try {
    if (!kernel) throw new Error("this browser does not run WebAssembly with SIMD: use a current one");
    const result = halves[message.half](message.tensor);
    postMessage({ id: message.id, tensor: result }, [result.data.buffer]);
  } catch (error) {
    postMessage({ id: message.id, error: error.message });
  }
};
