// What one reader knows: its cursor, and counts over the frames it was given. Kept across cuts and reconnects.
// Fed by a stream through main.js, shown by pane.js. No I/O.

/** @typedef {import('./frame.js').Frame} Frame */

/** Positions remembered to notice a second delivery; beyond any replay this page can cause. */
const REMEMBERED = 50_000;

export class Tracker {
  /** The last non-empty cursor: all a client needs to keep. */
  cursor = '';
  events = 0;
  gaps = 0;
  duplicates = 0;
  /** @type {{ at: number, cursor: string } | null} */
  progress = null;
  /** What this page published while the reader was cut. */
  since = { all: 0, mine: 0 };
  /** @type {Set<string>} */
  #seen = new Set();

  /**
   * @param {Frame} frame
   * @returns {boolean} whether this event had been delivered before
   */
  take(frame) {
    if (frame.cursor) this.cursor = frame.cursor;
    if (frame.kind === 'gap') this.gaps += 1;
    if (frame.kind === 'progress') this.progress = { at: frame.at, cursor: frame.cursor };
    if (frame.kind !== 'event') return false;
    this.events += 1;
    const repeated = this.#repeats(frame);
    if (repeated) this.duplicates += 1;
    return repeated;
  }

  /**
   * The id belongs to the key because an ephemeral event has no position: EventSource then shows the one before it.
   * @param {Frame} frame
   */
  #repeats(frame) {
    const key = `${frame.cursor} ${frame.body.source} ${frame.body.id}`;
    if (this.#seen.has(key)) return true;
    this.#seen.add(key);
    if (this.#seen.size > REMEMBERED) {
      for (const oldest of this.#seen) {
        this.#seen.delete(oldest);
        break;
      }
    }
    return false;
  }

  /**
   * @param {number} all events accepted by the hub
   * @param {number} mine how many of them are for this reader
   */
  published(all, mine) {
    this.since.all += all;
    this.since.mine += mine;
  }

  startOfCut() {
    this.since = { all: 0, mine: 0 };
  }

  /** Becomes a new reader. */
  forget() {
    this.cursor = '';
    this.events = this.gaps = this.duplicates = 0;
    this.progress = null;
    this.#seen.clear();
    this.startOfCut();
  }
}
