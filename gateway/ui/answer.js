// The answer to one picture: the picture, what the model saw of it, scores, time.

import { ask } from "./api.js";
import { $, h } from "./dom.js";
import { details, headline, overlay } from "./result.js";
import { bar } from "./timing.js";

/** Shows a picture's state; `acts` are what its buttons do. */
export function show(item, acts) {
  const section = $("answer");
  section.hidden = item === null;
  if (item !== null) {
    section.setAttribute("aria-busy", String(!item.ended));
    section.replaceChildren(pictures(item), text(item, acts));
  }
}

function pictures(item) {
  const nothing = (text) => h("span", { class: "nothing", text });
  const instead = (event) => event.target.replaceWith(nothing("cannot be shown"));
  const original = item.thumb ? h("img", { src: item.thumb, alt: "", onerror: instead }) : nothing("not kept");
  const figures = [figure(original, item.name, item.thumb && overlay(item.output))];
  if (item.seen) {
    const { width, height } = item.seenSize;
    const caption = `${width} × ${height} pixels, as the model saw them`;
    figures.push(figure(h("img", { src: item.seen, alt: caption, class: "pixels", id: "seen" }), `What the model saw: ${width} × ${height}`));
  }
  return h("div", { class: "pictures" }, ...figures);
}

function figure(picture, caption, boxes = null) {
  return h("figure", {}, h("div", { class: "frame" }, picture, boxes || null), h("figcaption", { text: caption }));
}

function text(item, { cancel, again }) {
  const { output, job } = item;
  if (!output) {
    const offered = item.ended ? item.blob && h("button", { type: "button", onclick: again, text: "Try again" }) : h("button", { type: "button", onclick: cancel, text: "Cancel" });
    return h(
      "div",
      { class: "outcome" },
      h("p", { class: item.isBad ? "error" : "", id: "state", text: item.sentence }),
      item.ended ? null : h("progress", { "aria-label": "Working" }),
      h("p", { class: "actions" }, offered || null),
    );
  }
  const badge = job.cached ? "cached" : "computed";
  return h(
    "div",
    { class: "outcome" },
    h("p", { class: "best" }, h("span", { class: "name", text: headline(output).text }), h("span", { class: `badge ${badge}`, text: badge })),
    details(output),
    bar(item),
    h("p", { class: "soft", text: facts(item) }),
    h("p", { class: "actions" }, h("button", { type: "button", onclick: again, text: "Ask again", hidden: !item.blob })),
  );
}

function facts({ job, cacheStatus }) {
  const batch = job.timings?.batch_size > 0 ? `batch of ${job.timings.batch_size}` : null;
  const digest = job.model.digest.slice("sha256:".length, "sha256:".length + 12);
  return [`${job.model.name} ${job.model.version} (${digest})`, batch, cacheStatus].filter(Boolean).join(" · ");
}

/** Asks for the picture as the model takes it; what cannot be shown is left out, the answer stands without it. */
export async function look(board, item) {
  if (item.seen || item.seenAsked || !item.blob || !item.output) {
    return;
  }
  item.seenAsked = true;
  try {
    const name = encodeURIComponent(item.job.model.name);
    const type = item.blob.type || "application/octet-stream";
    const response = await ask(`/models/${name}/input`, { method: "POST", headers: { "content-type": type }, body: item.blob, signal: item.leave.signal });
    const blob = await response.blob();
    const { width, height } = await createImageBitmap(blob);
    board.update(item, { seen: URL.createObjectURL(blob), seenSize: { width, height } });
  } catch {
    item.seenAsked = false;
  }
}
