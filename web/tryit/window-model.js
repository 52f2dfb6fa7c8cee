// What the page knows of the window: told by each Welcome, then followed from the cursors that pass by.
// For display only; the server alone knows what it holds (it also trims by age and by bytes).

import { parseCursor } from './cursor.js';

/** @typedef {import('./overflow.js').Limits} Limits */

export class WindowModel {
  /** @type {Limits | null} */
  limits = null;
  epoch = '';
  head = 0;
  #oldestTold = 0;

  /** The position before the oldest event held, as far as it is known. */
  get oldest() {
    const byCount = this.limits?.events ? this.head - this.limits.events : 0;
    return Math.max(this.#oldestTold, byCount, 0);
  }

  /** @param {import('./frame.js').Frame} frame */
  see(frame) {
    if (frame.kind === 'welcome') this.#welcome(frame.body);
    else if (frame.kind === 'gap') this.enter(frame.body.to);
    else this.raise(frame.cursor);
  }

  /** @param {Record<string, any>} welcome */
  #welcome(welcome) {
    this.enter(welcome.head);
    const oldest = parseCursor(welcome.oldest);
    if (oldest?.epoch === this.epoch) this.#oldestTold = oldest.seq;
    const limits = welcome.limits;
    if (!limits) return;
    this.limits = {
      events: Number(limits.windowEvents ?? 0),
      bytes: Number(limits.windowBytes ?? 0),
      eventBytes: Number(limits.maxEventBytes ?? 0),
      age: String(limits.windowAge ?? ''),
    };
  }

  /**
   * A cursor of the log as it is now: another epoch replaces the one known.
   * @param {string | undefined} cursor
   */
  enter(cursor) {
    const position = parseCursor(cursor);
    if (!position) return;
    if (position.epoch !== this.epoch) {
      this.epoch = position.epoch;
      this.head = position.seq;
      this.#oldestTold = 0;
    }
    this.head = Math.max(this.head, position.seq);
  }

  /**
   * The window no longer holds what was at this cursor.
   * @param {string | undefined} cursor
   */
  leave(cursor) {
    const position = parseCursor(cursor);
    if (position?.epoch === this.epoch) this.#oldestTold = Math.max(this.#oldestTold, position.seq);
  }

  /**
   * A cursor that may be of an earlier epoch.
   * @param {string} cursor
   */
  raise(cursor) {
    const position = parseCursor(cursor);
    if (position?.epoch === this.epoch) this.head = Math.max(this.head, position.seq);
  }
}
