// The pictures of this page and what has become of each. No request, no element.

import { percent } from "./dom.js";
import { headline } from "./result.js";

/** States in which nothing more will come. */
const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);
/** Most pictures the page keeps; older ones that have ended make room. */
const MOST = 2000;

/** One picture. */
export class Item {
  constructor({ name, blob = null, thumb, call, job = null }) {
    this.name = name;
    this.blob = blob;
    this.thumb = thumb;
    this.call = call;
    this.job = job;
    this.status = job?.status ?? "waiting";
    this.problem = null;
    this.retryAt = null;
    this.networkMs = null;
    this.seen = null;
    this.leave = new AbortController();
  }

  /** Whether nothing more will come. */
  get ended() {
    return ENDED.has(this.status);
  }

  /** Whether it has no answer and nobody wanted that. */
  get isBad() {
    return this.status === "failed" || this.status === "expired";
  }

  /** What it shows, once that is known. */
  get output() {
    return this.status === "succeeded" ? this.job.output : null;
  }

  get #result() {
    const { text, score } = headline(this.job.output);
    return score === null ? text : `${text}, ${percent(score)}`;
  }

  /** What there is to say about it, in one sentence. */
  get sentence() {
    switch (this.status) {
      case "waiting":
        return "Waits for its turn on this page.";
      case "asking":
        return "Asking …";
      case "retrying":
        return `${this.problem.message} Retrying in ${Math.max(1, Math.ceil((this.retryAt - Date.now()) / 1000))} s.`;
      case "queued":
        return this.job.queue ? `Queued, estimated position ${this.job.queue.position}.` : "Queued.";
      case "running":
        return "A worker is at it.";
      case "succeeded":
        return `${this.#result}${this.job.cached ? ", from the cache" : ""}.`;
      case "canceled":
        return "Canceled.";
      case "expired":
        return "Nobody got to it before its deadline.";
      default:
        return this.problem?.message ?? "It failed.";
    }
  }
}

/** All pictures, newest last; tells its listener of each change. */
export class Board {
  items = [];
  selected = null;
  #listener;

  constructor(listener) {
    this.#listener = listener;
  }

  add(items) {
    this.items.push(...items);
    const surplus = this.items.length - MOST;
    if (surplus > 0) {
      this.items.filter((item) => item.ended).slice(0, surplus).forEach((item) => this.remove(item));
    }
    this.#listener.added(items);
  }

  update(item, changes) {
    Object.assign(item, changes);
    this.#listener.changed(item);
  }

  select(item) {
    this.selected = item;
    this.#listener.selected(item);
  }

  remove(item) {
    this.items = this.items.filter((other) => other !== item);
    this.#listener.removed(item);
    if (this.selected === item) {
      this.select(this.items.at(-1) ?? null);
    }
    // Only now does no element show them any more.
    for (const url of [item.thumb, item.seen]) {
      if (url?.startsWith("blob:")) {
        URL.revokeObjectURL(url);
      }
    }
  }

  /** How many have ended. */
  get done() {
    return this.items.filter((item) => item.ended).length;
  }
}
