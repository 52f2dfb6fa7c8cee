// The live list of one pane: newest first, bounded, painted at most once per animation frame.
// Whatever arrives is counted elsewhere; this file only shows it.

import { el } from './dom.js';
import { positionText } from './cursor.js';
import { gapRange, headline, kindLabel, preview } from './frame.js';

/** @typedef {import('./frame.js').Frame} Frame */

/** Rows kept; older ones leave the page. */
const ROWS_MAX = 500;

export class FramesView {
  #list;
  /** @type {{ frame: Frame, repeated: boolean }[]} */
  #waiting = [];
  #scheduled = false;

  /** @param {HTMLOListElement} list */
  constructor(list) {
    this.#list = list;
  }

  /**
   * @param {Frame} frame
   * @param {boolean} [repeated] an event that had been delivered before
   */
  add(frame, repeated = false) {
    this.#waiting.push({ frame, repeated });
    // A hidden tab is not painted: what would leave the list at once need not wait for it.
    if (this.#waiting.length > ROWS_MAX) this.#waiting.shift();
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#paint());
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
  }

  #paint() {
    this.#scheduled = false;
    for (const { frame, repeated } of this.#waiting) {
      // A quiet reader would fill the list with progress: only the newest of a run stays.
      const newest = this.#list.firstElementChild;
      if (frame.kind === 'progress' && newest instanceof HTMLElement && newest.dataset.kind === 'progress') newest.remove();
      this.#list.prepend(row(frame, repeated));
    }
    this.#waiting = [];
    while (this.#list.childElementCount > ROWS_MAX) this.#list.lastElementChild?.remove();
  }
}

/**
 * @param {Frame} frame
 * @param {boolean} repeated
 */
function row(frame, repeated) {
  const item = el('li', `frame kind-${frame.kind}`);
  item.dataset.kind = frame.kind;
  if (frame.kind === 'note') {
    item.append(el('span', 'time', clock(frame.at)), el('span', 'words', headline(frame)));
    return item;
  }
  if (frame.kind === 'event') item.dataset.eventId = String(frame.body.id ?? '');
  if (repeated) item.classList.add('repeated');
  const details = el('details', '', summary(frame, repeated));
  // Most rows are never opened, so their JSON is written when they are.
  details.addEventListener('toggle', () => {
    if (details.open && details.childElementCount === 1) details.append(json(frame));
  });
  item.append(details);
  return item;
}

/**
 * @param {Frame} frame
 * @param {boolean} repeated
 */
function summary(frame, repeated) {
  const words = el('span', 'words', el('b', '', headline(frame)));
  const more = preview(frame);
  if (more) words.append(' ', el('span', 'preview', more));
  const position = el('code', 'position', frame.cursor ? positionText(frame.cursor) : '');
  position.title = frame.cursor || 'no cursor: not replayed';
  const made = el('summary', '', el('span', 'time', clock(frame.at)),
    el('span', 'chip', repeated ? 'duplicate' : kindLabel(frame.kind)), words, position);
  if (frame.kind === 'gap') {
    const repair = frame.body.repairAfter ? `, refetch in ${frame.body.repairAfter}` : '';
    made.append(el('span', 'hole', el('b', '', String(frame.body.reason ?? '')), ` ${gapRange(frame.body)}${repair}`));
  }
  return made;
}

/** @param {number} at */
function clock(at) {
  const time = new Date(at);
  const part = (/** @type {number} */ value, /** @type {number} */ width) => String(value).padStart(width, '0');
  return `${part(time.getHours(), 2)}:${part(time.getMinutes(), 2)}:${part(time.getSeconds(), 2)}.${part(time.getMilliseconds(), 3)}`;
}

/**
 * The frame in its JSON form, indented and coloured.
 * @param {Frame} frame
 */
function json(frame) {
  const whole = { ...(frame.cursor && { cursor: frame.cursor }), [frame.kind]: frame.body };
  const text = JSON.stringify(whole, null, 2);
  const block = el('pre', 'json');
  const token = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  let last = 0;
  for (const match of text.matchAll(token)) {
    block.append(text.slice(last, match.index));
    const [all, string, colon] = match;
    block.append(el('span', string ? (colon ? 'key' : 'string') : 'literal', string ?? all), colon ?? '');
    last = match.index + all.length;
  }
  block.append(text.slice(last));
  return block;
}
