// One shape for the frames of both transports, and the words a row shows for each kind.
// Who calls it: the two streams (to read what arrived) and the frame list (to say it).

import { counted } from './dom.js';
import { positionText } from './cursor.js';

/**
 * @typedef {object} Frame
 * @property {string} kind the frame's name in the JSON form ("event", "gap", …), or "note" for a line of the page itself
 * @property {string} cursor empty when the frame has none
 * @property {Record<string, any>} body
 * @property {number} at when it arrived, Unix milliseconds
 */

const KINDS = [
  'event', 'welcome', 'progress', 'gap', 'caughtUp', 'fellBehind', 'goodbye',
  'subscribed', 'standing', 'sessionInvalidation', 'membership',
];

/** What EventSource calls the control frames. */
export const SSE_NAMES = new Map([
  ['push.welcome', 'welcome'],
  ['push.progress', 'progress'],
  ['push.gap', 'gap'],
  ['push.caught_up', 'caughtUp'],
  ['push.fell_behind', 'fellBehind'],
  ['push.goodbye', 'goodbye'],
]);

/** @type {Record<string, string>} */
const LABELS = {
  caughtUp: 'caught up', fellBehind: 'fell behind', sessionInvalidation: 'invalidation',
};

/** @param {string} kind */
export function kindLabel(kind) {
  return LABELS[kind] ?? kind;
}

/**
 * A WebSocket message: `{"cursor":"…","<kind>":{…}}`.
 * @param {string} text
 * @param {number} at
 * @returns {Frame}
 */
export function frameOfMessage(text, at) {
  const json = parseObject(text);
  if (!json) return { kind: 'unknown', cursor: '', body: { text }, at };
  const kind = KINDS.find((name) => name in json);
  return { kind: kind ?? 'unknown', cursor: json.cursor ?? '', body: kind ? json[kind] : json, at };
}

/**
 * A server-sent event: the cursor is its id, the kind its name, the body its data.
 * @param {string} kind
 * @param {string} lastEventId
 * @param {string} text
 * @param {number} at
 * @returns {Frame}
 */
export function frameOfServerEvent(kind, lastEventId, text, at) {
  const json = parseObject(text);
  return { kind: json ? kind : 'unknown', cursor: lastEventId, body: json ?? { text }, at };
}

/**
 * @param {string} text
 * @returns {Record<string, any> | null}
 */
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * A line of the page's own in the list: what the reader did, between what it received.
 * @param {string} text
 * @returns {Frame}
 */
export function note(text) {
  return { kind: 'note', cursor: '', body: { text }, at: Date.now() };
}

/**
 * The main words of a row.
 * @param {Frame} frame
 * @returns {string}
 */
export function headline(frame) {
  const body = frame.body;
  switch (frame.kind) {
    case 'event': return String(body.type ?? '');
    case 'note': return String(body.text);
    case 'welcome': return String(body.outcome ?? '');
    case 'gap': return gapHeadline(body);
    case 'fellBehind': return `${counted(Number(body.events ?? 0), 'event')}, ${body.lag ?? ''}`;
    case 'goodbye': return [body.reason, body.retryAfter && `back in ${body.retryAfter}`].filter(Boolean).join(', ');
    case 'subscribed': return (body.topics ?? []).join(', ') || 'no topic';
    case 'caughtUp': return 'live from here';
    case 'progress': return 'delivered up to here';
    default: return '';
  }
}

/** @param {Record<string, any>} gap */
function gapHeadline(gap) {
  if (gap.count === undefined) return 'an unknown number of events missed';
  return `up to ${counted(Number(gap.count), 'event')} missed`;
}

/**
 * `#57 → #589`: after the one, up to and with the other.
 * @param {Record<string, any>} gap
 */
export function gapRange(gap) {
  const from = gap.from ? positionText(gap.from) : 'nothing read';
  return `${from} → ${gap.to ? positionText(gap.to) : '?'}`;
}

/**
 * The dim words after the main ones.
 * @param {Frame} frame
 */
export function preview(frame) {
  const body = frame.body;
  if (frame.kind === 'event') return oneLine(body.data ?? body.data_base64);
  if (frame.kind === 'welcome' && body.head) return `head ${positionText(body.head)}`;
  return '';
}

/** @param {unknown} data */
function oneLine(data) {
  if (data === undefined) return '';
  const text = typeof data === 'string' ? data : JSON.stringify(data);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/**
 * A proto duration in JSON ("5s", "0.250s") as milliseconds; 0 when absent.
 * @param {string | undefined} text
 */
export function durationMs(text) {
  const seconds = /^(\d+(?:\.\d+)?)s$/.exec(text ?? '');
  return seconds ? Number(seconds[1]) * 1000 : 0;
}
