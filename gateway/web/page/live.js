// Keeps the numbers up to date while somebody looks at them.

import { call, records, wait, Refusal } from "./net.js";

const PAUSES_S = [1, 2, 5, 10];
const SILENCE_S = 10;

// `told` is called with each document, `lost` when the gateway does not answer, `refused`
// with its refusal when it does not want to.
export class Live {
  #told;
  #lost;
  #refused;
  #running = null;

  constructor({ told, lost, refused }) {
    this.#told = told;
    this.#lost = lost;
    this.#refused = refused;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
  }

  start() {
    if (this.#running || document.hidden) return;
    this.#running = new AbortController();
    this.#watch(this.#running.signal);
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  restart() {
    this.stop();
    this.start();
  }

  async #watch(signal) {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        for await (const document of this.#documents(signal)) {
          failures = 0;
          this.#told(document);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refusal && !error.worthRetrying) {
          this.#running = null;
          this.#refused(error);
          return;
        }
      }
      this.#lost();
      await wait(PAUSES_S[Math.min(failures, PAUSES_S.length - 1)], signal).catch(() => {});
    }
  }

  // One stream. A gateway that fell silent has gone, whatever the connection looks like.
  async *#documents(signal) {
    const silence = new AbortController();
    const stop = () => silence.abort();
    signal.addEventListener("abort", stop, { once: true });
    let timer = setTimeout(stop, SILENCE_S * 1000);
    try {
      const response = await call("gateway/events", { signal: silence.signal });
      for await (const { data } of records(response)) {
        clearTimeout(timer);
        timer = setTimeout(stop, SILENCE_S * 1000);
        if (data) yield JSON.parse(data);
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }
}
