/** Publishes 1, 2, 3… until it is stopped: each number is said until it has been accepted. */

const EVERY = 200;

export class Counter {
  #publish;
  #refused;
  #run = null;
  #timer;

  /** *publish* sends data and resolves when it was accepted; *refused* hears why it never will be. */
  constructor(publish, refused) {
    this.#publish = publish;
    this.#refused = refused;
  }

  get counts() {
    return this.#run !== null;
  }

  start() {
    this.#run = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.#say(this.#run, 1, false);
  }

  stop() {
    this.#run = null;
    clearTimeout(this.#timer);
  }

  async #say(run, number, again) {
    let next = [number + 1, false];
    const due = performance.now() + EVERY;
    try {
      await this.#publish(again ? { run, number, again } : { run, number });
    } catch (error) {
      if (run !== this.#run) return;
      if (error.code >= 100 && !error.temporary) {
        this.stop();
        this.#refused(error);
        return;
      }
      // Nobody knows whether it arrived. Saying it again leaves no gap, and is marked as what it is.
      next = [number, true];
    }
    if (run !== this.#run) return;
    this.#timer = setTimeout(() => this.#say(run, ...next), Math.max(0, due - performance.now()));
  }
}
