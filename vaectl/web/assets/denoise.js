// The page of a model without a latent: it denoises the photographs that are dropped on it.
"use strict";

const MAX_WORKERS = 8;
const MAX_BLOCKS = 1 << 18, NORMAL_MEDIAN = 0.6745, WHITE_SHARE = 0.7;
const HAAR = [Math.SQRT1_2, -Math.SQRT1_2];
const HIGHEST_COSINE = [1, 3, 5, 7, 9, 11, 13, 15].map((n) => Math.cos((n * 7 * Math.PI) / 16) / 2);

async function main() {
  const tensors = await readTensors();
  const engines = Array.from({ length: Math.min(MAX_WORKERS, navigator.hardwareConcurrency || 2) }, () => new Engine(tensors));
  const denoised = byId("denoised"), original = byId("original");
  let name = "photo", version = 0;

  function show() {
    denoised.hidden = byId("show-original").checked;
    original.hidden = !denoised.hidden;
  }

  /** Denoise a photograph in tiles, each with a margin of the receptive radius, so that there are no seams. */
  async function openFile(file) {
    const current = ++version;
    const { bytes, height, width } = await readImage(file, "transparent");
    const values = toChannels(bytes);
    for (const canvas of [denoised, original]) {
      Object.assign(canvas, { height, width });
      canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
    }
    name = file.name.replace(/\.[^.]*$/, "");
    byId("show-original").disabled = false;
    byId("show-original").checked = false;
    byId("save-image").disabled = true;
    byId("progress").hidden = false;
    show();
    const { tile, margin, multiple } = model.tiling;
    const decoder = chooseDecoder(values, height, width);
    const tiles = [];
    for (let top = 0; top < height; top += tile) for (let left = 0; left < width; left += tile) tiles.push([top, left]);
    let done = 0;
    const start = performance.now();
    const work = async (engine) => {
      for (let next = tiles.shift(); next && current === version; next = tiles.shift()) {
        const rows = paddedRange(next[0], tile, margin, height, multiple), columns = paddedRange(next[1], tile, margin, width, multiple);
        const { data } = await engine.run(decoder, cut(values, height, width, rows, columns), [1, rows.length, columns.length, CHANNELS]);
        if (current !== version) return;
        paste(data, rows, columns, next, bytes, height, width);
        byId("progress").value = ++done / (done + tiles.length);
        byId("status").textContent = `${Math.round((performance.now() - start) / 1000)} s`;
      }
    };
    await Promise.all(engines.map(work));
    if (current !== version) return;
    byId("progress").hidden = true;
    byId("save-image").disabled = false;
    byId("status").textContent = `${file.name}: ${width} × ${height} pixels in ${((performance.now() - start) / 1000).toFixed(1)} s`;
    document.body.dataset.denoised = Number(document.body.dataset.denoised ?? 0) + 1;
  }

  /** Write the middle of a tile onto the canvas, with the alpha of the photograph. */
  function paste(data, rows, columns, [top, left], bytes, height, width) {
    const bottom = Math.min(top + model.tiling.tile, height), right = Math.min(left + model.tiling.tile, width);
    const image = new ImageData(right - left, bottom - top);
    for (let row = top, at = 0; row < bottom; row++)
      for (let column = left; column < right; column++, at += 4) {
        const pixel = (row - rows.start) * columns.length + column - columns.start;
        for (let channel = 0; channel < 3; channel++)
          image.data[at + channel] = Math.round(255 * data[pixel * CHANNELS + (CHANNELS === 3 ? channel : 0)]);
        image.data[at + 3] = bytes[4 * (row * width + column) + 3];
      }
    denoised.getContext("2d").putImageData(image, left, top);
  }

  byId("lead").textContent = model.lead;
  listFacts();
  byId("show-original").addEventListener("change", show);
  byId("save-image").addEventListener("click", () => saveCanvas(`${name}-denoised.png`, denoised));
  onFiles(openFile);
  document.body.dataset.ready = "true";
}

/** The decoder for the noise of a photograph: that of the first expert in it, or the one for all. */
function chooseDecoder(values, height, width) {
  if (!model.experts.length) return "decoder";
  const sigma = estimateWhiteSigma(values, height, width) / 255;
  const index = model.experts.findIndex(([low, high]) => low <= sigma && sigma <= high);
  return index < 0 ? "decoder" : `experts.${index}.decoder`;
}

/** The sigma of white noise that differs from channel to channel, or of a gray photograph of all, as in vaectl/images/noise.py. */
function estimateWhiteSigma(values, height, width) {
  const differences = values.map((value, at) => ((at + 1) % CHANNELS ? (values[at + 1] - value) / Math.SQRT2 : 0));
  const [signal, channels] = differences.some(Boolean) ? [differences, CHANNELS - 1] : [values, CHANNELS];
  const [fine, highest] = [HAAR, HIGHEST_COSINE].map((kernel) => estimateSigma(signal, height, width, channels, kernel));
  return highest > WHITE_SHARE * fine ? Math.min(fine, highest) : 0;
}

/** The sigma of white noise in the first `channels`, from the median of the coefficients of a separable kernel. */
function estimateSigma(values, height, width, channels, kernel) {
  const size = kernel.length, rows = Math.floor(height / size), columns = Math.floor(width / size);
  const step = size * Math.max(1, Math.floor((rows * columns) / MAX_BLOCKS)), found = [];
  for (let top = 0; top < rows * size; top += step)
    for (let left = 0; left < columns * size; left += size)
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let row = 0; row < size; row++)
          for (let column = 0; column < size; column++)
            sum += kernel[row] * kernel[column] * values[((top + row) * width + left + column) * CHANNELS + channel];
        found.push(Math.abs(sum));
      }
  const sorted = Float32Array.from(found).sort(), middle = sorted.length >> 1;
  if (!sorted.length) return 0;
  return (sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2) / NORMAL_MEDIAN;
}

/** The pixels along one side that a tile reads, which may end beyond `size` to fill a multiple. */
function paddedRange(start, tile, margin, size, multiple) {
  const first = Math.max(0, start - margin);
  const end = Math.min(start + tile + margin, Math.ceil(size / multiple) * multiple);
  return { start: first, length: end - first };
}

/** A tile of values of 0 to 255, in [0, 1]; what lies beyond the edge is reflected. */
function cut(values, height, width, rows, columns) {
  const reflect = (index, size) => Math.min(index % (2 * size), 2 * size - 1 - (index % (2 * size)));
  const result = new Float32Array(rows.length * columns.length * CHANNELS);
  let at = 0;
  for (let row = rows.start; row < rows.start + rows.length; row++)
    for (let column = columns.start; column < columns.start + columns.length; column++) {
      const pixel = reflect(row, height) * width + reflect(column, width);
      for (let channel = 0; channel < CHANNELS; channel++) result[at++] = values[pixel * CHANNELS + channel] / 255;
    }
  return result;
}

main();
