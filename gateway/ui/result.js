// Results of each task: in a few words, in full, and drawn on the picture.

import { h, percent, svg } from "./dom.js";

/** Values of a vector that are shown. */
const FIRST_VALUES = 8;

/** A result in a few words, and its score if it has one. */
export function headline(output) {
  switch (output.task) {
    case "multilabel":
      return { text: output.labels.map(({ label }) => label).join(", ") || "No label", score: null };
    case "detect":
      return { text: counted(output.boxes), score: null };
    case "embed":
      return { text: `Vector of ${output.embedding.length} values`, score: null };
    default:
      return { text: output.label, score: output.score };
  }
}

/** Such as `2 hen, 1 crane`. */
function counted(boxes) {
  const counts = new Map();
  for (const { label } of boxes) {
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts].map(([label, count]) => `${count} ${label}`).join(", ") || "No object";
}

/** All of a result. */
export function details(output) {
  if (output.task === "embed") {
    const first = output.embedding.slice(0, FIRST_VALUES).map((value) => value.toFixed(4));
    return h("p", { class: "vector", text: `${first.join(", ")}${output.embedding.length > FIRST_VALUES ? ", …" : ""}` });
  }
  return h("ol", { class: "bars", "aria-label": "Scores" }, ...(output.boxes ?? output.top).map(score));
}

function score({ label, score: value }) {
  const filled = h("span", { class: "filled" });
  filled.style.width = percent(value).replace(" ", "");
  return h("li", {}, h("span", { text: label }), h("span", { class: "track", "aria-hidden": "true" }, filled), h("span", { class: "number", text: percent(value) }));
}

/** The boxes of a detector, in the picture's own pixels, to lie on the picture; null for other results. */
export function overlay(output) {
  if (output?.task !== "detect") {
    return null;
  }
  const { width, height, boxes } = output;
  const size = Math.max(width, height) / 22;
  const shapes = boxes.flatMap(({ label, box: [left, top, right, bottom] }) => [
    svg("rect", { x: left, y: top, width: right - left, height: bottom - top }),
    svg("text", { x: left, y: Math.max(top - size / 4, size), "font-size": size, text: label }),
  ]);
  return svg("svg", { class: "boxes", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": counted(boxes) }, ...shapes);
}
