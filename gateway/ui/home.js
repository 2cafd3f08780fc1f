// The home page: puts its parts together.

import * as answer from "./answer.js";
import { ask, useKey, whenLocked } from "./api.js";
import { Board, Item } from "./board.js";
import { $ } from "./dom.js";
import { listen } from "./intake.js";
import { kept } from "./jobs.js";
import { Runner } from "./runner.js";
import * as snippets from "./snippets.js";
import * as table from "./table.js";

/** How often the seconds until another try are counted down. */
const TICK_MS = 500;
/** Labels that are asked for. */
const SHOWN = 10;

function say(text, isError = false) {
  // A text that is there already would not be read out again.
  if ($("message").textContent !== text) {
    $("message").textContent = text;
  }
  $("message").classList.toggle("error", isError);
}

const acts = {
  open: (item) => board.select(item),
  cancel: (item) => runner.cancel(item),
  remove: (item) => runner.remove(item),
};

const board = new Board({
  added(items) {
    table.add(items, acts);
    table.count(board);
  },
  changed(item) {
    table.change(item);
    table.count(board);
    if (item === board.selected) {
      present(item);
    }
    if (board.items.length > 1 && board.done === board.items.length) {
      say(`${board.selected.sentence} All ${board.items.length} pictures are done.`, board.selected.isBad);
    }
  },
  selected(item) {
    table.mark(item);
    present(item);
    snippets.show(item);
  },
  removed(item) {
    table.remove(item);
    table.count(board);
  },
});
const runner = new Runner(board);

function present(item) {
  answer.show(item, { cancel: () => runner.cancel(item), again: () => again(item) });
  if (item === null) {
    say("No picture yet.");
    return;
  }
  say(item.sentence, item.isBad);
  answer.look(board, item);
}

/** How the next picture is asked about. */
function call(blob) {
  const query = new URLSearchParams({ model: $("model").value, top_k: String(SHOWN) });
  if ($("model").value === "") {
    query.delete("model");
  }
  const headers = { "content-type": blob.type || "application/octet-stream" };
  if ($("skip-cache").checked) {
    headers["cache-control"] = "no-cache";
  }
  return { path: $("background").checked ? "/jobs" : "/predict", query: query.toString(), headers };
}

function take(files) {
  const items = files.map((blob) => new Item({ name: blob.name || "pasted.png", blob, thumb: URL.createObjectURL(blob), call: call(blob) }));
  board.add(items);
  board.select(items[0]);
  for (const item of items) {
    runner.run(item);
  }
}

function again({ blob }) {
  take([blob]);
}

/** Jobs that were followed before the page was reloaded. */
function resume() {
  const items = kept().map(({ url, name, call: made, thumb }) => {
    const job = { status: "queued", urls: { self: url, events: `${url}/events`, cancel: `${url}/cancel` } };
    return new Item({ name, thumb, call: made, job });
  });
  if (items.length > 0) {
    board.add(items);
    board.select(items.at(-1));
    for (const item of items) {
      runner.run(item);
    }
  }
}

async function listModels() {
  try {
    const response = await ask("/models");
    const { models } = await response.json();
    const before = $("model").value;
    $("model").replaceChildren(...models.map(({ name, version, default: is }) => new Option(`${name} ${version}`, name, is, before ? name === before : is)));
    const about = () => {
      $("about").textContent = models.find(({ name }) => name === $("model").value)?.description ?? "";
    };
    $("model").onchange = about;
    about();
  } catch (problem) {
    say(`The models cannot be listed. ${problem.message}`, true);
  }
}

/** What waited for a key goes on. */
function unlock() {
  useKey($("key").value.trim());
  listModels();
  snippets.show(board.selected);
  for (const item of board.items.filter(({ problem }) => problem?.code === "unauthenticated")) {
    board.update(item, { status: "waiting", problem: null });
    runner.run(item);
  }
}

whenLocked(() => {
  $("locked").hidden = false;
});
$("key").addEventListener("change", unlock);
$("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  unlock();
});
$("csv").addEventListener("click", () => table.download("selvage.csv", "text/csv", table.csv(board.items)));
$("json").addEventListener("click", () => table.download("selvage.json", "application/json", table.json(board.items)));
$("cancel-all").addEventListener("click", () => board.items.filter((item) => !item.ended).forEach((item) => runner.cancel(item)));
$("clear").addEventListener("click", () => {
  board.select(null);
  [...board.items].forEach((item) => runner.remove(item));
});
setInterval(() => {
  for (const item of board.items.filter(({ status }) => status === "retrying")) {
    table.change(item);
    const state = $("state");
    if (item === board.selected && state) {
      state.textContent = item.sentence;
    }
  }
}, TICK_MS);

listen(take, (text) => say(text, true));
snippets.start(say);
listModels();
resume();
document.documentElement.dataset.ready = "yes";
