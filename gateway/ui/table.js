// Many pictures: their table, its progress, and the table as a file.

import { $, h, percent } from "./dom.js";
import { headline } from "./result.js";

const rows = new Map();

/** Adds rows. */
export function add(items, acts) {
  for (const item of items) {
    const cells = {
      answer: h("td"),
      score: h("td", { class: "number" }),
      time: h("td", { class: "number" }),
      action: h("td", { class: "action" }),
    };
    const thumb = item.thumb ? h("img", { src: item.thumb, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }) : null;
    const open = h("button", { class: "link", type: "button", onclick: () => acts.open(item) }, thumb, h("span", { text: item.name }));
    const row = h("tr", {}, h("th", { scope: "row" }, open), ...Object.values(cells));
    rows.set(item, { row, cells, acts });
    $("rows").append(row);
    change(item);
  }
}

/** Shows a row's state. */
export function change(item) {
  const { cells, acts } = rows.get(item);
  const { output, job } = item;
  const { text, score } = output ? headline(output) : { text: item.sentence, score: null };
  cells.answer.textContent = text;
  cells.answer.className = item.isBad ? "error" : "";
  cells.score.textContent = score === null ? "" : percent(score);
  cells.time.textContent = output ? job.timings.total_ms.toFixed(1) : "";
  const offered = item.ended ? "Remove" : "Cancel";
  if (cells.action.firstChild?.textContent !== offered) {
    const act = item.ended ? acts.remove : acts.cancel;
    cells.action.replaceChildren(h("button", { class: "quiet", type: "button", "aria-label": `${offered} ${item.name}`, onclick: () => act(item), text: offered }));
  }
}

/** Takes a row away. */
export function remove(item) {
  rows.get(item)?.row.remove();
  rows.delete(item);
}

/** Marks the row whose answer is shown. */
export function mark(selected) {
  for (const [item, { row }] of rows) {
    row.toggleAttribute("aria-current", item === selected);
  }
}

/** Shows how far it is. */
export function count({ items, done }) {
  $("many").hidden = items.length < 2;
  $("count").textContent = `${done} of ${items.length} done`;
  $("progress").max = Math.max(1, items.length);
  $("progress").value = done;
  $("cancel-all").disabled = done === items.length;
}

const COLUMNS = {
  name: (item) => item.name,
  status: (item) => item.status,
  label: (item) => (item.output ? headline(item.output).text : ""),
  score: (item) => item.output?.score ?? "",
  cached: (item) => item.job?.cached ?? "",
  model: (item) => item.job?.model.name ?? "",
  image_hash: (item) => item.job?.image_hash ?? "",
  total_ms: (item) => item.job?.timings?.total_ms ?? "",
  error: (item) => item.problem?.message ?? "",
};

/** The table as CSV by RFC 4180; what a spreadsheet would take for a formula is made text. */
export function csv(items) {
  const cell = (value) => {
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = items.map((item) => Object.values(COLUMNS).map((column) => cell(column(item))));
  return [Object.keys(COLUMNS), ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

/** The table as JSON: the job objects, with the names of their files. */
export function json(items) {
  const entry = (item) => ({ name: item.name, status: item.status, error: item.problem?.message ?? null, job: item.job });
  return `${JSON.stringify(items.map(entry), null, 2)}\n`;
}

/** Hands a text to the browser as a download. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  // The download has its own hold on the content once it has begun.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
