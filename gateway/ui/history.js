// The last minutes of the fleet's numbers: samples, and what changes between them. No element.

/** How far back charts go. */
export const SPAN_MS = 5 * 60_000;
/** Counts come about once a second, each up to half a second old: a rate over less would jump. */
const RATE_MS = 6_000;

/** Samples by their time, oldest first. */
export class History {
  samples = [];

  /** Takes a sample in; one of an older time means that another gateway's clock speaks, and the history starts again. */
  add(at, stats) {
    const last = this.samples.at(-1);
    if (last && at <= last.at) {
      this.samples = [];
    }
    this.samples.push({ at, stats });
    const oldest = at - SPAN_MS;
    while (this.samples[1]?.at < oldest) {
      this.samples.shift();
    }
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
