// So many tasks at once, the others in their order.

/** Bounds how many tasks run at once. */
export class Pool {
  #free;
  #waiting = [];

  constructor(size) {
    this.#free = size;
  }

  /** Runs a task when there is a place. */
  async run(task) {
    if (this.#free === 0) {
      await new Promise((resolve) => this.#waiting.push(resolve));
    } else {
      this.#free -= 1;
    }
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) {
        next();
      } else {
        this.#free += 1;
      }
    }
  }
}
