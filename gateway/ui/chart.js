// A small line chart in SVG: several series over a time, each with its newest value, and both axes. Knows nothing of fleets.

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
    this.most = h("span", {});
    this.ends = [h("time", {}), h("time", {})];
    const values = h("div", { class: "values" }, this.most, h("span", { text: format(0) }));
    const times = h("div", { class: "times row" }, ...this.ends);
    const area = h("div", { class: "area soft number" }, values, plot, times);
    this.element = h("figure", { class: "panel chart" }, h("figcaption", { class: "name", text: title }), area, h("ul", { class: "legend" }, ...legend));
  }

  /** Draws points `{ at, value }` per series, for the time from `from` to `to`. */
  draw(all, from, to) {
    all = all.map((points) => points.filter(({ at }) => at >= from));
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
    this.most.textContent = values.length > 0 ? this.format(most) : "";
    [from, to].forEach((at, index) => {
      this.ends[index].textContent = new Date(at).toLocaleTimeString();
    });
  }
}
