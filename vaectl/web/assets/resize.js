// Resizes images as Pillow does with Image.Resampling.LANCZOS, so that a dropped image gets the latent that `vaectl encode` gives it.
"use strict";

const LOBES = 3;
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x) => (Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0);

/** For each of `size` output pixels: the first input pixel, and the weights of it and of those that follow. */
function resamplingWeights(start, end, inSize, size) {
  const scale = (end - start) / size;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: size }, (_, at) => {
    const center = start + (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - LOBES * stretch + 0.5));
    const last = Math.min(inSize, Math.trunc(center + LOBES * stretch + 0.5));
    const weights = Array.from({ length: last - first }, (_, index) => lanczos((first + index - center + 0.5) / stretch));
    const sum = weights.reduce((left, right) => left + right, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Resample the middle axis of values (outer, weights' input size, inner), rounded to 0 to 255 as Pillow's passes are. */
function resampleAxis(values, outer, inSize, inner, weights) {
  const result = new Float32Array(outer * weights.length * inner);
  for (let i = 0; i < outer; i++)
    weights.forEach(({ first, weights: own }, at) => {
      for (let k = 0; k < inner; k++) {
        let sum = 0;
        for (let w = 0; w < own.length; w++) sum += own[w] * values[(i * inSize + first + w) * inner + k];
        result[(i * weights.length + at) * inner + k] = Math.min(Math.max(Math.round(sum), 0), 255);
      }
    });
  return result;
}

/** What is in the box [left, upper, right, lower] of values (height, width, channels), resized. */
function resizeBox(values, height, width, channels, [left, upper, right, lower], newHeight, newWidth) {
  const horizontal = resamplingWeights(left, right, width, newWidth);
  const vertical = resamplingWeights(upper, lower, height, newHeight);
  const narrowed = resampleAxis(values, height, width, channels, horizontal);
  return resampleAxis(narrowed, 1, height, newWidth * channels, vertical);
}

/** Fit values (height, width, channels), 0 to 255, to a size: "crop" the middle, "pad" with black, or "stretch", as images/aspect_ratio.py. */
function fitImage(values, height, width, channels, newHeight, newWidth, fit) {
  const ratio = newWidth / newHeight;
  if (fit === "pad") {
    const innerWidth = Math.min(newWidth, Math.max(1, Math.round((width / height) * newHeight)));
    const innerHeight = Math.min(newHeight, Math.max(1, Math.round((height / width) * newWidth)));
    const inner = resizeBox(values, height, width, channels, [0, 0, width, height], innerHeight, innerWidth);
    const padded = new Float32Array(newHeight * newWidth * channels);
    const left = Math.round((newWidth - innerWidth) / 2), top = Math.round((newHeight - innerHeight) / 2);
    for (let row = 0; row < innerHeight; row++) {
      const values = inner.subarray(row * innerWidth * channels, (row + 1) * innerWidth * channels);
      padded.set(values, ((top + row) * newWidth + left) * channels);
    }
    return padded;
  }
  let box = [0, 0, width, height];
  if (fit === "crop" && width / height > ratio) {
    const left = (width - ratio * height) / 2;
    box = [left, 0, left + ratio * height, height];
  } else if (fit === "crop") {
    const top = (height - width / ratio) / 2;
    box = [0, top, width, top + width / ratio];
  }
  if (newHeight === height && newWidth === width) return values;
  return resizeBox(values, height, width, channels, box, newHeight, newWidth);
}
