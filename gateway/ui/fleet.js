// The fleet's page: one stream of numbers, and what it says. How charts are drawn is chart.js, what is kept history.js.

import { useKey, whenLocked } from "./api.js";
import { Chart } from "./chart.js";
import { $, h, percent } from "./dom.js";
import { follow, sleep } from "./events.js";
import { History, SPAN_MS } from "./history.js";

/** The gateway tells once a second; after so long without a word the stream is dead. */
const SILENCE_MS = 5_000;
/** How long a refusal that will not pass by itself is left alone. */
const PAUSE_MS = 10_000;

/** What it means that something the gateway depends on is not well. */
const TROUBLE = {
  broker: { down: "The broker is down: nothing new is taken.", blocked: "The broker takes no messages: it is short of memory or disk." },
  store: { down: "The store is down: synchronous requests are answered, new asynchronous jobs are rejected, and the list of processes is out of date." },
  cache: { down: "The cache is down: every picture is computed." },
};
const count = (value) => (value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1));
const many = (number, what) => `${number ?? "no known"} ${what}${number === 1 ? "" : "s"}`;
const perSecond = (value) => `${count(value)}/s`;
const milliseconds = (value) => `${value >= 100 ? Math.round(value) : value.toFixed(1)} ms`;

const history = new History();
const sum = (list, read) => list.reduce((total, entry) => total + read(entry), 0);
const depth = (priority) => (stats) => sum(stats.queues.filter((entry) => entry.priority === priority), (entry) => entry.depth);

/** Charts: what is drawn, and how each series is read from the history. */
const CHARTS = [
  {
    title: "Jobs ended",
    format: perSecond,
    series: [
      { name: "succeeded", kind: "infer", read: () => history.rates(({ jobs }) => jobs.succeeded) },
      { name: "failed", kind: "bad", read: () => history.rates(({ jobs }) => jobs.failed) },
      { name: "canceled", kind: "queue", read: () => history.rates(({ jobs }) => jobs.canceled) },
      { name: "expired", kind: "batch", read: () => history.rates(({ jobs }) => jobs.expired) },
    ],
  },
  {
    title: "Requests",
    format: perSecond,
    series: [
      { name: "answered", kind: "decode", read: () => history.values(({ rates }) => rates.answered_per_s) },
      { name: "submitted", kind: "queue", read: () => history.values(({ rates }) => rates.submitted_per_s) },
      { name: "refused", kind: "bad", read: () => history.rates(({ jobs }) => jobs.refused) },
    ],
  },
  {
    title: "Latency, last minute",
    format: milliseconds,
    series: ["p50", "p90", "p99"].map((name, index) => ({ name, kind: ["infer", "decode", "batch"][index], read: () => history.values(({ latency_ms: latency }) => latency[name]) })),
  },
  {
    title: "Queue depth",
    format: count,
    top: 1,
    series: [
      { name: "interactive", kind: "infer", read: () => history.values(depth("interactive")) },
      { name: "batch", kind: "queue", read: () => history.values(depth("batch")) },
    ],
  },
  {
    title: "Cache hits, last minute",
    format: (value) => percent(value),
    top: 1,
    series: [{ name: "share of requests", kind: "infer", read: () => history.values(({ cache }) => cache.hit_ratio) }],
  },
  {
    title: "Sessions",
    format: count,
    top: 1,
    series: [
      { name: "busy", kind: "batch", read: () => history.values(({ workers }) => workers && sum(workers, ({ busy }) => busy)) },
      { name: "in all", kind: "network", read: () => history.values(({ workers }) => workers && sum(workers, ({ sessions }) => sessions)) },
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

function troubles({ dependencies, workers, jobs }) {
  const found = Object.entries(dependencies).map(([name, state]) => TROUBLE[name]?.[state]);
  if (workers?.length === 0) {
    found.push("No worker is there: what is asked for waits.");
  }
  if (jobs.dead_letters > 0) {
    found.push(`${many(jobs.dead_letters, "message")} dead-lettered.`);
  }
  return found.filter(Boolean);
}

function show(stats) {
  const found = troubles(stats);
  const where = stats.mode === "embedded" ? "One process, gateway and worker" : `${many(stats.gateways.length, "gateway")}, ${many(stats.workers?.length, "worker")}`;
  stand(found.length > 0 ? "trouble" : "live", found.length > 0 ? found.join(" ") : `Live. ${where}; all is well.`);
  $("dependencies").replaceChildren(...Object.entries(stats.dependencies).map(dependency), ...facts(stats));
  for (const { chart, series } of CHARTS) {
    chart.draw(series.map(({ read }) => read()), history.now - SPAN_MS, history.now);
  }
  $("queues").replaceChildren(...stats.queues.map(queue));
  $("workers").replaceChildren(...(stats.workers ?? []).flatMap(worker));
  $("worker-count").textContent = stats.workers ? String(stats.workers.length) : "unknown";
  $("gateways").replaceChildren(...stats.gateways.map(gateway));
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
      h("td", {}, h("code", { title: held.digest, text: held.digest.slice("sha256:".length, "sha256:".length + 8) })),
      number(count(held.jobs)),
      number(held.mean_batch === null ? "–" : held.mean_batch.toFixed(1)),
      number(index === 0 ? span(uptime) : ""),
    ),
  );
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
$("charts").replaceChildren(...CHARTS.map(({ chart }) => chart.element));
live();
document.documentElement.dataset.ready = "yes";
