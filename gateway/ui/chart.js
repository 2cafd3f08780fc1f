// A small line chart in SVG: several series over the last minutes, each with its newest value. Knows nothing of fleets.

import { h, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 96;
const MARGIN = 4;

/** A chart that `draw` redraws. `series` are `{ name, kind }`; `format` writes a value. */
export class Chart {
  constructor({ title, series, format, top = 0 }) {
    this.format = format;
    this.top = top;
    this.lines = series.map(({ kind }) => svg("path", { class: `line ${kind}` }));
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...this.lines);
    this.now = series.map(() => h("span", { class: "number", text: "–" }));
    const legend = series.map(({ name, kind }, index) => h("li", {}, h("span", { class: `dot ${kind}` }), h("span", { text: name }), this.now[index]));
    this.most = h("span", { class: "soft number" });
    this.element = h("figure", { class: "panel chart" }, h("figcaption", { class: "row" }, h("span", { class: "name", text: title }), this.most), plot, h("ul", { class: "legend" }, ...legend));
  }

  /** Draws points `{ at, value }` per series, for the time from `from` to `to`. */
  draw(all, from, to) {
    const values = all.flat().map(({ value }) => value).filter((value) => value !== null);
    const most = Math.max(this.top, ...values);
    const x = (at) => MARGIN + ((at - from) / (to - from)) * (WIDTH - 2 * MARGIN);
    const y = (value) => HEIGHT - MARGIN - (most > 0 ? value / most : 0) * (HEIGHT - 2 * MARGIN);
    all.forEach((points, index) => {
      let path = "";
      let pen = "M";
      for (const { at, value } of points) {
        if (value === null) {
          pen = "M";
        } else {
          path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
          pen = "L";
        }
      }
      this.lines[index].setAttribute("d", path);
      const newest = points.at(-1)?.value ?? null;
      this.now[index].textContent = newest === null ? "–" : this.format(newest);
    });
    this.most.textContent = values.length > 0 ? `top ${this.format(most)}` : "";
  }
}
