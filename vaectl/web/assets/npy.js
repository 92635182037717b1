// Reads and writes latents in NPY files.
"use strict";

const MAX_ROWS = 2000;
const NPY_MAGIC = "\x93NUMPY";

/** The rows of latents (N, D) or (D,) in an NPY file. */
function readNpy(buffer, name) {
  const bytes = new Uint8Array(buffer), view = new DataView(buffer);
  const magic = String.fromCharCode(...bytes.subarray(0, 6));
  if (magic !== NPY_MAGIC) throw new Error(`${name} is not an NPY file: drop one that vaectl encode wrote`);
  const long = bytes[6] > 1;
  const start = long ? 12 : 10, length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const type = /'descr': *'([^']*)'/.exec(header)?.[1], shape = /'shape': *\(([^)]*)\)/.exec(header)?.[1];
  const sizes = (shape ?? "").split(",").filter((size) => size.trim()).map(Number);
  const arrays = { "<f4": Float32Array, "<f8": Float64Array };
  if (!(type in arrays) || sizes.length < 1 || sizes.length > 2 || header.includes("'fortran_order': True"))
    throw new Error(`${name} does not hold latents as vaectl encode writes them: one row of floats for each image`);
  const data = buffer.slice(start + length), width = sizes.at(-1), rows = sizes.length === 2 ? sizes[0] : 1;
  if (data.byteLength < rows * width * arrays[type].BYTES_PER_ELEMENT) throw new Error(`${name} is cut off: write it again`);
  return { rows, width, values: Float32Array.from(new arrays[type](data, 0, rows * width)) };
}

/** A latent as an NPY file of shape (1, D). */
function writeNpy(z) {
  const start = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, ${z.length}), }`;
  const header = start.padEnd(Math.ceil((start.length + 11) / 64) * 64 - 11) + "\n";
  const head = Uint8Array.from(`${NPY_MAGIC}\x01\x00..${header}`, (character) => character.charCodeAt(0));
  new DataView(head.buffer).setUint16(8, header.length, true);
  const result = new Uint8Array(head.length + 4 * z.length);
  result.set(head);
  result.set(new Uint8Array(Float32Array.from(z).buffer), head.length);
  return result;
}
