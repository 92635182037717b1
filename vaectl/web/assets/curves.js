// Draws how the model learned, epoch by epoch.
"use strict";

const CURVE_HEIGHT = 130;

/** Draw each figure per epoch as a line, and below them the same as a table. */
function drawCurves() {
  const epochs = model.epochs;
  const figures = model.figures.filter(([figure]) => epochs.some((epoch) => Number.isFinite(epoch[figure])));
  if (!figures.length) {
    byId("curves").textContent = "The checkpoint does not say.";
    return;
  }
  const curves = element("div", "", { class: "grid" });
  for (const [figure, term] of epochs.length > 1 ? figures : [])
    curves.append(drawCurve(term, epochs.map((epoch) => epoch[figure]).filter(Number.isFinite)));
  byId("curves").append(curves);
  const table = element("table"), head = element("tr");
  head.append(element("th", "epoch", { scope: "col" }), ...figures.map(([, term]) => element("th", term, { scope: "col" })));
  table.append(head);
  epochs.forEach((epoch, index) => {
    const row = element("tr");
    row.append(element("th", index + 1, { scope: "row" }), ...figures.map(([figure]) => element("td", Number.isFinite(epoch[figure]) ? epoch[figure].toFixed(2) : "")));
    table.append(row);
  });
  const details = element("details");
  details.append(element("summary", "As a table"), table);
  if (epochs.length === 1) details.open = true;
  byId("curves").append(details);
}

function drawCurve(name, values) {
  const svgElement = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const low = Math.min(...values), high = Math.max(...values), width = 300, left = 55;
  const x = (index) => left + (index / Math.max(1, values.length - 1)) * (width - left - 10);
  const y = (value) => 20 + (1 - (value - low) / (high - low || 1)) * (CURVE_HEIGHT - 45);
  const label = `${name}: from ${values[0].toFixed(2)} in epoch 1 to ${values.at(-1).toFixed(2)} in epoch ${values.length}`;
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${CURVE_HEIGHT}`, role: "img", "aria-label": label });
  const text = (content, attributes) => {
    const made = svgElement("text", { fill: "currentColor", ...attributes });
    made.textContent = content;
    svg.append(made);
  };
  text(name, { x: left, y: 12, "font-weight": 600 });
  text(high.toFixed(1), { x: left - 6, y: y(high) + 4, "text-anchor": "end" });
  if (high > low) text(low.toFixed(1), { x: left - 6, y: y(low) + 4, "text-anchor": "end" });
  text("1", { x: x(0), y: CURVE_HEIGHT - 8 });
  text(`epoch ${values.length}`, { x: width - 10, y: CURVE_HEIGHT - 8, "text-anchor": "end" });
  for (const value of [low, high])
    svg.append(svgElement("line", { x1: left, x2: width - 10, y1: y(value), y2: y(value), stroke: "currentColor", "stroke-opacity": 0.15 }));
  const line = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  svg.append(svgElement("polyline", { points: line, fill: "none", stroke: "var(--accent)", "stroke-width": 2 }));
  return svg;
}
