// Publishes until the window no longer holds what a cut reader has not seen, so that its resume meets a Gap.
// The plan is pure; the run takes the publisher as a function. window-card.js shows both.

import { newEvent } from './publish.js';

/**
 * @typedef {object} Limits of a Welcome
 * @property {number} events 0: not bounded
 * @property {number} bytes 0: not bounded
 * @property {number} eventBytes the largest event data accepted
 * @property {string} age
 */

/**
 * @typedef {object} Plan
 * @property {'events' | 'bytes'} by the bound that is overflowed
 * @property {number} events how many to publish
 * @property {number} dataBytes the size of each event's data
 * @property {number} batch events per request
 */

/** More events than this are no demonstration any more. */
export const EASY_EVENTS = 20_000;
const EASY_BYTES = 512 * 1024 * 1024;
/** Below the 4 MiB a publish request may have. */
const REQUEST_BYTES = 3.5 * 1024 * 1024;
/** Envelope of one filler in a JSON batch, generously. */
const ENVELOPE_BYTES = 300;
const SMALL_BATCH = 250;
/** A few more than the bound, for events of others that left meanwhile. */
const MARGIN = 16;

/** The fillers go here, where nobody reads. */
const FILLER_TO = 'topic:try-it-filler';

/**
 * @param {Limits} limits
 * @returns {Plan | null} null: this window is too large for a page to overflow
 */
export function planOverflow(limits) {
  if (limits.events > 0 && limits.events <= EASY_EVENTS) {
    return { by: 'events', events: limits.events + MARGIN, dataBytes: 0, batch: SMALL_BATCH };
  }
  if (limits.bytes === 0 || limits.bytes > EASY_BYTES) return null;
  const dataBytes = Math.max(16, Math.min(limits.eventBytes || 65_536, 60 * 1024) - 64);
  const events = Math.ceil(limits.bytes / dataBytes) + MARGIN;
  return { by: 'bytes', events, dataBytes, batch: Math.max(1, Math.floor(REQUEST_BYTES / (dataBytes + ENVELOPE_BYTES))) };
}

/**
 * The first event is for the cut reader itself: a reader is told only of holes in what concerns it.
 * @param {Plan} plan
 * @param {string} missedBy a recipient of the cut reader
 * @param {(events: import('./publish.js').CloudEvent[]) => Promise<unknown>} send rejects to stop
 * @param {(done: number) => void} onProgress
 */
export async function runOverflow(plan, missedBy, send, onProgress) {
  await send([newEvent(missedBy, 'try-it.missed', { note: 'published while cut, then pushed out of the window' })]);
  const data = plan.dataBytes ? 'x'.repeat(plan.dataBytes) : 0;
  for (let done = 0; done < plan.events;) {
    const count = Math.min(plan.batch, plan.events - done);
    await send(Array.from({ length: count }, () => newEvent(FILLER_TO, 'try-it.filler', data)));
    done += count;
    onProgress(done);
  }
}
