// Server-sent events over fetch: EventSource cannot send an API key, and does not say why it failed.

import { ask } from "./api.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
/** A stream that says nothing for so long is dead; the gateway sends a comment every 15 s. */
const SILENCE_MS = 40_000;

/**
 * Calls `take({ event, id, data })` for every event of `path` and comes back to it when it is cut. Ends when `take` returns
 * true, when the gateway says that there is no more (204), or by the first refusal that will not pass, which is thrown.
 * `state(up, problem, retryAt)` is called with whether the stream is open.
 */
export async function follow(path, { signal, take, state = () => {}, silence = SILENCE_MS }) {
  let last = null;
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    let problem = null;
    try {
      const headers = { accept: "text/event-stream", ...(last === null ? {} : { "last-event-id": last }) };
      const quiet = new Watchdog(silence);
      const both = AbortSignal.any([signal, quiet.signal]);
      const response = await ask(path, { headers, signal: both, stream: true });
      if (response.status === 204) {
        return;
      }
      state(true);
      for await (const event of eventsOf(response.body, quiet)) {
        pause = FIRST_PAUSE_MS;
        last = event.id ?? last;
        if (take(event)) {
          quiet.end();
          return;
        }
      }
      quiet.end();
    } catch (error) {
      if (signal.aborted) {
        throw error;
      }
      const passes = error.status === undefined || error.status === 0 || error.passes;
      if (!passes) {
        throw error;
      }
      problem = error;
    }
    const wait = pause * (0.75 + Math.random() / 2);
    state(false, problem, Date.now() + wait);
    await sleep(wait, signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

/** Resolves after a while; rejects when the signal fires first. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) {
      stop();
    }
  });
}

/** Fires its signal unless it is fed in time. */
class Watchdog {
  #timer;
  #controller = new AbortController();

  constructor(limit) {
    this.limit = limit;
    this.signal = this.#controller.signal;
    this.feed();
  }

  feed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), this.limit);
  }

  end() {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }
}

/** The events of a body, by the rules of the HTML standard, section 9.2.6. */
async function* eventsOf(body, quiet) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      quiet.feed();
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        if (line !== "") {
          note(event, line);
        } else if (event.data.length > 0) {
          yield { ...event, data: event.data.join("\n") };
          event = { data: [] };
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function note(event, line) {
  const colon = line.indexOf(":");
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "data") {
    event.data.push(value);
  } else if (field === "event" || field === "id") {
    event[field] = value;
  }
}
