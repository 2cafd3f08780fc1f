// The last hour of the fleet's numbers: samples, and what changes between them. No element.

/** How far back samples are kept. */
const SPAN_MS = 60 * 60_000;
/** Samples come once a second; those older than this are kept once in ten seconds, as the gateway keeps them. */
const FINE_MS = 5 * 60_000;
const COARSE_MS = 10_000;
/** Counts come about once a second, each up to half a second old: a rate over less would jump. */
const RATE_MS = 6_000;

/** Samples by their time, oldest first. */
export class History {
  samples = [];

  /** Takes a sample in; one of a much older time means that another gateway's clock speaks, and the history starts again. */
  add(at, stats) {
    const last = this.samples.at(-1);
    if (last && at < last.at - COARSE_MS) {
      this.samples = [];
    } else if (last && at <= last.at) {
      return;
    }
    this.samples.push({ at, stats });
    const oldest = at - SPAN_MS;
    while (this.samples[1]?.at < oldest) {
      this.samples.shift();
    }
    const aged = this.samples.findIndex((sample) => sample.at > at - FINE_MS) - 1;
    if (aged > 0 && this.samples[aged].at - this.samples[aged - 1].at < COARSE_MS) {
      this.samples.splice(aged, 1);
    }
  }

  /** Takes what the gateway has kept, older than all that is here. */
  fill(kept) {
    const oldest = this.samples[0]?.at ?? Infinity;
    this.samples.unshift(...kept.filter(({ at }) => at < oldest));
  }

  /** The newest moment. */
  get now() {
    return this.samples.at(-1)?.at ?? 0;
  }

  /** A value of each sample, `null` where there is none. */
  values(read) {
    return this.samples.map(({ at, stats }) => ({ at, value: read(stats) }));
  }

  /** How fast a count grew before each sample, per second. A count that went back belongs to processes that have ended. */
  rates(read) {
    let from = 0;
    return this.samples.map(({ at, stats }, index) => {
      while (this.samples[from + 1]?.at <= at - RATE_MS && from + 1 < index) {
        from += 1;
      }
      const before = this.samples[from];
      const seconds = (at - before.at) / 1000;
      return { at, value: seconds > 0 ? Math.max(0, read(stats) - read(before.stats)) / seconds : null };
    });
  }
}
