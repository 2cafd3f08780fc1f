// Brings each picture to its end: asks, waits out what passes, follows jobs, cancels. Changes the board and nothing else.

import { Problem, ask } from "./api.js";
import { follow, sleep } from "./events.js";
import { forget, keep } from "./jobs.js";
import { Pool } from "./pool.js";

/** Browsers open six connections to a server: some for requests, some for streams, the rest for cancelling. */
const ASKS_AT_ONCE = 3;
const STREAMS_AT_ONCE = 2;
/** Refusals that are waited out before a picture is given up. */
const MOST_TRIES = 100;
const LONGEST_PAUSE_MS = 60_000;

/** Runs the pictures of a board. */
export class Runner {
  #asks = new Pool(ASKS_AT_ONCE);
  #streams = new Pool(STREAMS_AT_ONCE);

  constructor(board) {
    this.board = board;
  }

  /** Brings a picture, or a job that was kept, to its end. */
  async run(item) {
    const { signal } = item.leave;
    try {
      if (item.job === null) {
        await this.#asks.run(() => this.#ask(item, signal));
      }
      if (item.job?.urls) {
        await this.#streams.run(() => this.#follow(item, signal));
      }
    } catch (error) {
      if (signal.aborted) {
        this.board.update(item, { status: "canceled" });
      } else {
        const problem = error instanceof Problem ? error : new Problem(0, { title: `The page made a mistake: ${error.message}` });
        this.board.update(item, { status: problem.code === "job_canceled" ? "canceled" : "failed", problem });
      }
    }
  }

  /** Gives a picture up: a job is canceled, anything else is left. */
  async cancel(item) {
    const cancel = item.job?.urls?.cancel;
    if (!cancel) {
      item.leave.abort();
      if (item.status === "waiting" || item.status === "retrying") {
        this.board.update(item, { status: "canceled" });
      }
      return;
    }
    try {
      const response = await ask(cancel, { method: "POST" });
      this.#take(item, await response.json());
    } catch (error) {
      if (error.code !== "job_finished") {
        this.board.update(item, { problem: error });
      }
    }
  }

  async #ask(item, signal) {
    for (let tries = 1; ; tries += 1) {
      signal.throwIfAborted();
      this.board.update(item, { status: "asking", retryAt: null });
      try {
        return await this.#once(item, signal);
      } catch (problem) {
        if (!problem.passes || tries === MOST_TRIES) {
          throw problem;
        }
        const pause = Math.min(problem.retryAfterMs, LONGEST_PAUSE_MS) * (1 + Math.random() / 5);
        this.board.update(item, { status: "retrying", problem, retryAt: Date.now() + pause });
        await sleep(pause, signal);
      }
    }
  }

  async #once(item, signal) {
    const { path, query, headers } = item.call;
    const began = performance.now();
    const response = await ask(`${path}?${query}`, { method: "POST", headers, body: item.blob, signal });
    const job = await response.json();
    const took = performance.now() - began;
    item.cacheStatus = response.headers.get("cache-status");
    item.networkMs = response.status === 200 ? Math.max(0, took - job.timings.total_ms) : null;
    this.#take(item, job);
    if (job.urls) {
      await keep(item);
    }
  }

  async #follow(item, signal) {
    const take = ({ event, data }) => event === "status" && this.#take(item, JSON.parse(data));
    await follow(item.job.urls.events, { signal, take });
    if (!item.ended) {
      const response = await ask(item.job.urls.self, { signal });
      this.#take(item, await response.json());
    }
  }

  /** Takes a job object in; tells whether it has ended. */
  #take(item, job) {
    const error = job.error;
    const problem = error ? new Problem(error.status, error) : null;
    this.board.update(item, { job, status: job.status, problem });
    return item.ended;
  }

  /** Takes a picture off the board. */
  remove(item) {
    item.leave.abort();
    forget(item);
    this.board.remove(item);
  }
}

