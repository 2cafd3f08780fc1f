// Where the milliseconds went, as one stacked bar with its legend.

import { h, ms } from "./dom.js";

/** The parts of a picture's time, in the order in which they happen. */
export function parts({ job, networkMs }) {
  const { timings } = job;
  if (!timings) {
    return [];
  }
  const batch = timings.batch_wait_ms;
  const inside = job.cached
    ? [["cache", "cache", timings.total_ms]]
    : [
        ["queue", "queue", Math.max(0, timings.queue_ms - batch)],
        ["batch", "batch wait", batch],
        ["decode", "decode", timings.decode_ms],
        ["infer", "inference", timings.inference_ms],
      ];
  const network = networkMs === null ? [] : [["network", "network", networkMs]];
  return [...inside, ...network].map(([kind, name, value]) => ({ kind, name, value }));
}

/** The bar and its legend. */
export function bar(item) {
  const list = parts(item);
  const total = list.reduce((sum, part) => sum + part.value, 0);
  if (total === 0) {
    return null;
  }
  const summary = list.map(({ name, value }) => `${name} ${ms(value)}`).join(", ");
  const pieces = list.map(({ kind, value }) => {
    const piece = h("span", { class: `piece ${kind}` });
    piece.style.flexGrow = value / total;
    return piece;
  });
  const legend = list.map(({ kind, name, value }) =>
    h("li", {}, h("span", { class: `dot ${kind}` }), h("span", { text: name }), h("span", { class: "number", text: ms(value) })),
  );
  return h(
    "div",
    { class: "timing" },
    h("p", { class: "total", text: `${ms(total)} in all` }),
    h("div", { class: "stack", role: "img", "aria-label": `Time: ${summary}` }, ...pieces),
    h("ul", { class: "legend" }, ...legend),
  );
}
