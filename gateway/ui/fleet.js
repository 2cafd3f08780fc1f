// The fleet's page: one stream of numbers, and what it says. How charts are drawn is chart.js, what is kept history.js.

import { ask, useKey, whenLocked } from "./api.js";
import { Chart } from "./chart.js";
import { $, h, percent } from "./dom.js";
import { follow, sleep } from "./events.js";
import { History } from "./history.js";

/** The gateway tells once a second; after so long without a word the stream is dead. */
const SILENCE_MS = 5_000;
/** How long a refusal that will not pass by itself is left alone. */
const PAUSE_MS = 10_000;

const count = (value) => (value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1));
const many = (number, what) => `${number ?? "no known"} ${what}${number === 1 ? "" : "s"}`;
const perSecond = (value) => `${count(value)}/s`;
const milliseconds = (value) => `${value >= 100 ? Math.round(value) : value.toFixed(1)} ms`;

const history = new History();
/** Charts: what is drawn, and how each series is read from the history. */
const CHARTS = [
  {
    title: "Jobs ended per second",
    format: perSecond,
    series: [
      { name: "succeeded", kind: "infer", read: () => history.rates(({ jobs }) => jobs.succeeded) },
      { name: "failed", kind: "bad", read: () => history.rates(({ jobs }) => jobs.failed) },
      { name: "canceled", kind: "queue", read: () => history.rates(({ jobs }) => jobs.canceled) },
      { name: "expired", kind: "batch", read: () => history.rates(({ jobs }) => jobs.expired) },
    ],
  },
  {
    title: "Requests per second, of the minute before",
    format: perSecond,
    series: [
      { name: "answered", kind: "decode", read: () => history.values(({ rates }) => rates.answered_per_s) },
      { name: "submitted", kind: "queue", read: () => history.values(({ rates }) => rates.submitted_per_s) },
      { name: "refused", kind: "bad", read: () => history.rates(({ jobs }) => jobs.refused) },
    ],
  },
  {
    title: "Latency, of the minute before",
    format: milliseconds,
    series: ["p50", "p90", "p99"].map((name, index) => ({ name, kind: ["infer", "decode", "batch"][index], read: () => history.values(({ latency_ms: latency }) => latency[name]) })),
  },
  {
    title: "Queue depth",
    format: count,
    top: 1,
    series: [
      { name: "interactive", kind: "infer", read: () => history.values(({ waiting }) => waiting.interactive) },
      { name: "batch", kind: "queue", read: () => history.values(({ waiting }) => waiting.batch) },
    ],
  },
  {
    title: "Cache hits, of the minute before",
    format: (value) => percent(value),
    top: 1,
    series: [{ name: "share of requests", kind: "infer", read: () => history.values(({ cache }) => cache.hit_ratio) }],
  },
  {
    title: "Sessions",
    format: count,
    top: 1,
    series: [
      { name: "busy", kind: "batch", read: () => history.values(({ sessions }) => sessions?.busy ?? null) },
      { name: "in all", kind: "network", read: () => history.values(({ sessions }) => sessions?.total ?? null) },
    ],
  },
].map((described) => ({ chart: new Chart(described), series: described.series }));

/** Says how the fleet stands; the text is read out only when it changes. */
function stand(state, text) {
  const standing = $("standing");
  standing.dataset.state = state;
  $("live").classList.toggle("stale", state === "lost");
  if (standing.textContent !== text) {
    standing.textContent = text;
  }
}

function show(stats) {
  const found = stats.conditions.map(({ text }) => text);
  const where = stats.mode === "embedded" ? "One process, gateway and worker" : `${many(stats.gateways.length, "gateway")}, ${many(stats.workers?.length, "worker")}`;
  stand(found.length > 0 ? "trouble" : "live", found.length > 0 ? found.join(" ") : `Live. ${where}; all is well.`);
  $("dependencies").replaceChildren(...Object.entries(stats.dependencies).map(dependency), ...facts(stats));
  draw();
  $("events").replaceChildren(...stats.events.map(happened));
  $("queues").replaceChildren(...stats.queues.map(queue));
  $("workers").replaceChildren(...(stats.workers ?? []).flatMap(worker));
  $("worker-count").textContent = stats.workers ? String(stats.workers.length) : "unknown";
  $("gateways").replaceChildren(...stats.gateways.map(gateway));
}

function draw() {
  const span = Number($("span").value) * 60_000;
  for (const { chart, series } of CHARTS) {
    chart.draw(series.map(({ read }) => read()), history.now - span, history.now);
  }
}

function happened({ at, warning, text }) {
  const time = new Date(at);
  return h("li", {}, h("time", { class: "number soft", datetime: at, title: time.toLocaleString(), text: time.toLocaleTimeString() }), h("span", { class: warning ? "bad" : "", text }));
}

function dependency([name, state]) {
  return h("li", {}, h("span", { text: name }), h("span", { class: `badge ${state === "ok" ? "up" : "down"}`, text: state === "ok" ? "up" : state }));
}

function facts({ jobs, cache }) {
  const fact = (name, value) => h("li", {}, h("span", { text: name }), h("span", { class: "number", text: value }));
  const ratio = cache.hit_ratio === null ? "–" : percent(cache.hit_ratio);
  return [fact("in flight", `${jobs.in_flight} of ${jobs.in_flight_limit}`), fact("cache hits", ratio), fact("dead letters", count(jobs.dead_letters))];
}

function queue({ model, priority: name, depth: waiting, oldest_ms: oldest }) {
  return h("tr", {}, h("th", { scope: "row", text: model }), h("td", { text: name }), number(count(waiting)), number(oldest === null ? "–" : span(oldest / 1000)));
}

function worker({ id, uptime_s: uptime, models }) {
  return models.map((held, index) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", text: index === 0 ? id : "" }),
      h("td", {}, busy(held)),
      h("td", { text: `${held.name} ${held.version}` }),
      device(held.placement),
      h("td", {}, h("code", { title: held.digest, text: held.digest.slice("sha256:".length, "sha256:".length + 8) })),
      number(count(held.jobs)),
      number(held.mean_batch === null ? "–" : held.mean_batch.toFixed(1)),
      number(index === 0 ? span(uptime) : ""),
    ),
  );
}

/** A part that the CPU runs instead is in the cell, its operators in the title. */
function device(placement) {
  if (!placement) {
    return h("td", { text: "–" });
  }
  const { device: name, device_share: share, cpu_operators: operators } = placement;
  const listed = Object.entries(operators).map(([operator, nodes]) => `${operator} (${nodes})`);
  const title = share < 1 ? `On the CPU: ${listed.join(", ") || "all operators"}` : null;
  return h("td", { title, text: share < 1 ? `${name} ${percent(share)}` : name });
}

function busy({ busy: at, sessions }) {
  return h("span", { class: "busy" }, h("meter", { max: sessions, value: at, "aria-label": "Busy sessions" }), h("span", { class: "number", text: `${at} of ${sessions}` }));
}

function gateway({ id, answering, status, uptime_s: uptime, in_flight: inFlight, connections }) {
  const name = answering ? `${id} (tells this)` : id;
  const state = h("span", { class: `badge ${status === "ready" ? "up" : "down"}`, text: status });
  return h("tr", {}, h("th", { scope: "row", text: name }), h("td", {}, state), number(count(inFlight)), number(count(connections)), number(span(uptime)));
}

const number = (text) => h("td", { class: "number", text });

/** A span of seconds as people read it. */
function span(seconds) {
  if (seconds < 60) {
    return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function lost(reason) {
  const seen = history.samples.length > 0 ? ` What is shown is from ${new Date(history.now).toLocaleTimeString()}.` : "";
  stand("lost", `Disconnected.${reason ? ` ${reason}` : ""}${seen} Retrying …`);
}

let retry = new AbortController();

async function live() {
  for (;;) {
    retry = new AbortController();
    const { signal } = retry;
    const take = ({ event, data }) => {
      if (event === "stats") {
        const stats = JSON.parse(data);
        history.add(Date.parse(stats.at), stats);
        show(stats);
      }
      return false;
    };
    try {
      const kept = await (await ask("/stats/history", { signal })).json();
      history.fill(kept.samples.map((sample) => ({ at: Date.parse(sample.at), stats: sample })));
      await follow("/stats/events", { signal, take, silence: SILENCE_MS, state: (up, problem) => up || lost(problem?.status === 0 ? "" : problem?.message) });
    } catch (problem) {
      if (!signal.aborted) {
        lost(problem.message);
        await sleep(PAUSE_MS, signal).catch(() => {});
      }
    }
  }
}

whenLocked(() => {
  $("locked").hidden = false;
});
$("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
  retry.abort();
});
$("span").addEventListener("change", draw);
$("charts").replaceChildren(...CHARTS.map(({ chart }) => chart.element));
live();
document.documentElement.dataset.ready = "yes";
