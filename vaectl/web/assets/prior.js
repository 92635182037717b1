// Samples the prior: N(0, I), or the mixture of Gaussians that was fitted to the latents.
"use strict";

/** A sample of N(0, 1) (Box & Muller 1958). */
function sampleNormal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/** An index, with probabilities in proportion to the weights. */
function sampleIndex(weights) {
  let left = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
  const found = weights.findIndex((weight) => (left -= weight) < 0);
  return found < 0 ? weights.length - 1 : found;
}

/** A sample of the learned prior, or of N(0, I) if there is none; with a label, from the components by their share of it. */
function sampleLatent(tensors, label) {
  const z = Float32Array.from({ length: model.network.latent_dim }, sampleNormal);
  if (!model.prior) return z;
  const { dims, labels } = model.prior, active = dims.length;
  const shares = tensors["prior.shares"], column = labels.indexOf(label);
  const weights = [...tensors["prior.weights"]];
  const component = sampleIndex(label ? weights.map((weight, index) => weight * shares[index * labels.length + column]) : weights);
  const factor = tensors["prior.factors"].subarray(component * active * active);
  const noise = dims.map((dim) => z[dim]);
  dims.forEach((dim, row) => {
    z[dim] = tensors["prior.means"][component * active + row];
    for (let k = 0; k <= row; k++) z[dim] += factor[row * active + k] * noise[k];
  });
  return z;
}
