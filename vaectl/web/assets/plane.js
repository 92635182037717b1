// The plane that a map shows: two directions in the latent space, and the part of it in view.
"use strict";

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

/** A plane with coordinates x = u·z and y = v·z, seen through a window of `width` and `height` pixels. */
class Plane {
  constructor() {
    Object.assign(this, { u: null, v: null, x: 0, y: 0, scale: 60, width: 1, height: 1 }); // the center, and pixels per unit
  }

  /** Where a latent is on the plane. */
  project(z) {
    return [dot(this.u, z), dot(this.v, z)];
  }

  /** The latent at (x, y): `base` moved along the two directions. */
  lift(x, y, base) {
    const [baseX, baseY] = this.project(base);
    return base.map((value, index) => value + (x - baseX) * this.u[index] + (y - baseY) * this.v[index]);
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  fromScreen(left, top) {
    return [this.x + (left - this.width / 2) / this.scale, this.y - (top - this.height / 2) / this.scale];
  }

  /** Move what is in view by pixels. */
  pan(across, down) {
    this.x -= across / this.scale;
    this.y += down / this.scale;
  }

  /** Zoom by a factor; what is at the pixel stays there. */
  zoom(factor, [left, top] = [this.width / 2, this.height / 2]) {
    const [x, y] = this.fromScreen(left, top);
    this.scale *= factor;
    this.x = x - (left - this.width / 2) / this.scale;
    this.y = y + (top - this.height / 2) / this.scale;
  }

  /** Bring a rectangle into view. */
  fit([left, right], [bottom, top]) {
    Object.assign(this, { x: (left + right) / 2, y: (bottom + top) / 2 });
    this.scale = 0.94 * Math.min(this.width / (right - left), this.height / (top - bottom));
  }
}

/** The range of all values but the outermost ones, at least 1 wide. */
function robustRange(values) {
  const sorted = Float32Array.from(values).sort(), last = sorted.length - 1;
  if (last < 0) return [-3, 3];
  const low = sorted[Math.floor(0.005 * last)], high = sorted[Math.ceil(0.995 * last)], missing = Math.max(0, 1 - (high - low)) / 2;
  return [low - missing, high + missing];
}
