// How long a client waits before it connects again: the numbers of PushClient, so that a page herd behaves like a gateway herd.
// Pure: randomness comes in, time is the caller's.

const BASE_MS = 200;
const CAP_MS = 10_000;
/** A connection that has lived this long and still delivers has proven its health. */
export const HEALTHY_AFTER_MS = 10_000;

export class Backoff {
  #failures = 0;
  #random;

  /** @param {() => number} random in [0, 1) */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * Full jitter: anywhere between nothing and a ceiling that doubles from 200 ms to 10 s.
   * @returns {number} milliseconds
   */
  next() {
    // 2^6 × 200 ms is past the cap; clamped first, so that no count of failures overflows.
    const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(this.#failures, 6));
    this.#failures += 1;
    return this.#random() * ceiling;
  }

  /**
   * The server asked to come back later: the upper half of the cap.
   * @returns {number} milliseconds
   */
  later() {
    this.#failures += 1;
    return CAP_MS / 2 + (this.#random() * CAP_MS) / 2;
  }

  /** Call on proven health only: an accepted connection proves nothing. */
  reset() {
    this.#failures = 0;
  }
}
