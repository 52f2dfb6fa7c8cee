// The picture of the window, where each reader stands in it, and the button that overflows it.

import { byId, bytesText, counted, el, grouped } from './dom.js';
import { parseCursor } from './cursor.js';
import { EASY_EVENTS, planOverflow, runOverflow } from './overflow.js';
import { publish } from './publish.js';

/** @typedef {import('./pane.js').Pane} Pane */
/** @typedef {import('./window-model.js').WindowModel} WindowModel */

/**
 * @typedef {object} WindowHooks
 * @property {(events: import('./publish.js').CloudEvent[], results: import('./publish.js').PublishResult[]) => void} onPublished
 * @property {() => string} missedBy a recipient that every reader of this page has
 */

/** The share of the picture left of the oldest event, when no reader stands there. */
const GONE_STUB = 0.05;

export class WindowCard {
  #model;
  #panes;
  #hooks;
  #limits = byId('window-limits', HTMLElement);
  #note = byId('overflow-note', HTMLElement);
  #start = byId('overflow', HTMLButtonElement);
  #cancel = byId('overflow-cancel', HTMLButtonElement);
  #progress = byId('overflow-progress', HTMLProgressElement);
  #track;
  /** @type {AbortController | null} */
  #running = null;
  /** What the last run ended with, shown until a pane resumes. */
  #outcome = '';

  /**
   * @param {WindowModel} model
   * @param {Pane[]} panes
   * @param {WindowHooks} hooks
   */
  constructor(model, panes, hooks) {
    this.#model = model;
    this.#panes = panes;
    this.#hooks = hooks;
    this.#track = new Track(byId('window-view', HTMLElement), panes);
    this.#start.addEventListener('click', () => void this.#overflow());
    this.#cancel.addEventListener('click', () => this.#running?.abort());
  }

  paint() {
    this.#track.paint(this.#model, this.#panes);
    const limits = this.#model.limits;
    if (limits) this.#limits.textContent = `holds ${limitsText(limits)}`;
    this.#paintOverflow();
  }

  #paintOverflow() {
    const limits = this.#model.limits;
    const plan = limits && planOverflow(limits);
    const cut = this.#panes.some((pane) => pane.isCut);
    if (!cut) this.#outcome = '';
    this.#start.hidden = this.#running !== null;
    this.#start.disabled = !cut || !plan;
    this.#start.textContent = plan?.by === 'bytes' ? `Overflow with ${bytesText(plan.events * plan.dataBytes)}` : 'Overflow the window';
    this.#cancel.hidden = this.#progress.hidden = this.#running === null;
    if (!this.#running) this.#say(limits ? this.#hint(limits, plan, cut) : '');
  }

  /**
   * @param {import('./overflow.js').Limits} limits
   * @param {import('./overflow.js').Plan | null} plan
   * @param {boolean} cut
   */
  #hint(limits, plan, cut) {
    if (this.#outcome) return this.#outcome;
    const small = limits.events > EASY_EVENTS || limits.events === 0
      ? `This window holds ${limits.events ? grouped(limits.events) : 'any number of'} events: start the server with --window-events 500 to overflow it in a moment. ` : '';
    if (!plan) return `${small}It is too large to overflow from a page.`;
    if (!cut) return `${small}To see a gap: cut a pane, overflow the window, resume.`;
    return `${small}Publishes ${counted(plan.events, 'event')}, so that what a cut pane has not read leaves the window.`;
  }

  async #overflow() {
    const plan = this.#model.limits && planOverflow(this.#model.limits);
    if (!plan || this.#running) return;
    const running = new AbortController();
    this.#running = running;
    this.#outcome = '';
    this.#progress.max = plan.events;
    this.#progress.value = 0;
    this.#say(`Publishing ${counted(plan.events, 'event')}…`);
    this.paint();
    /** @type {string | undefined} of the event that is pushed out */
    let missed;
    try {
      await runOverflow(plan, this.#hooks.missedBy(), async (events) => {
        running.signal.throwIfAborted();
        const results = await publish(events, running.signal);
        missed ??= results[0]?.cursor;
        this.#hooks.onPublished(events, results);
      }, (done) => { this.#progress.value = done; });
      this.#model.leave(missed);
      this.#outcome = `Published ${counted(plan.events + 1, 'event')}. Resume a cut pane to see its gap.`;
    } catch (error) {
      this.#outcome = running.signal.aborted ? 'Cancelled.' : `Stopped: ${/** @type {Error} */ (error).message}`;
    }
    this.#running = null;
    this.paint();
  }

  /** @param {string} text */
  #say(text) {
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }
}

/** @param {import('./overflow.js').Limits} limits */
function limitsText(limits) {
  const bounds = [];
  if (limits.events) bounds.push(counted(limits.events, 'event'));
  if (limits.bytes) bounds.push(bytesText(limits.bytes));
  const seconds = Number.parseFloat(limits.age);
  if (seconds) bounds.push(seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${seconds} s`);
  return `at most ${bounds.join(', ')}, whichever ends first`;
}

/** The picture: what is gone, what is held, and a pin for each reader. */
class Track {
  #root;
  #gone = el('div', 'gone');
  #held = el('div', 'held');
  #oldest = el('span', 'mark-oldest');
  #head = el('span', 'mark-head');
  /** @type {Map<string, HTMLElement>} */
  #pins = new Map();

  /**
   * @param {HTMLElement} root
   * @param {Pane[]} panes
   */
  constructor(root, panes) {
    this.#root = root;
    root.setAttribute('role', 'img');
    const track = el('div', 'track', this.#gone, this.#held);
    for (const pane of panes) {
      const pin = el('div', `pin pin-${pane.key}`, el('span', 'pin-label'));
      this.#pins.set(pane.key, pin);
      track.append(pin);
    }
    root.append(track, el('div', 'scale', this.#oldest, this.#head));
  }

  /**
   * @param {WindowModel} model
   * @param {Pane[]} panes
   */
  paint(model, panes) {
    const { oldest, head } = model;
    const cursors = panes.map((pane) => ({ pane, position: parseCursor(pane.tracker.cursor) }));
    const known = cursors.flatMap(({ position }) => (position && position.epoch === model.epoch ? [position.seq] : []));
    const low = Math.min(oldest, ...known);
    const stub = low < oldest || oldest === 0 ? 0 : GONE_STUB;
    /** @param {number} seq */
    const share = (seq) => (head === low ? 1 : stub + ((1 - stub) * (seq - low)) / (head - low));
    const oldestAt = head === oldest ? stub : share(oldest);
    this.#gone.style.width = `${oldestAt * 100}%`;
    this.#held.style.left = `${oldestAt * 100}%`;
    this.#oldest.textContent = oldestAt > 0 ? `gone up to #${oldest}` : 'from the beginning';
    this.#oldest.style.left = `${Math.min(oldestAt * 100, 70)}%`;
    this.#head.textContent = `head #${head}`;
    for (const { pane, position } of cursors) this.#paintPin(pane, position, model, share);
    this.#root.setAttribute('aria-label', this.#spoken(model, cursors));
  }

  /**
   * @param {Pane} pane
   * @param {import('./cursor.js').Position | null} position
   * @param {WindowModel} model
   * @param {(seq: number) => number} share
   */
  #paintPin(pane, position, model, share) {
    const pin = this.#pins.get(pane.key);
    if (!pin) return;
    pin.hidden = position === null;
    if (!position) return;
    const foreign = position.epoch !== model.epoch;
    const at = foreign ? 0 : share(position.seq);
    const lost = !pane.isServed && (foreign || position.seq < model.oldest);
    pin.style.left = `${at * 100}%`;
    pin.dataset.side = at > 0.5 ? 'left' : 'right';
    pin.classList.toggle('lost', lost);
    pin.classList.toggle('is-cut', pane.isCut);
    const label = pin.firstElementChild;
    if (label) label.textContent = `${pane.title} ${foreign ? 'in another epoch' : `#${position.seq}`}${pane.isCut ? ' (cut)' : ''}`;
  }

  /**
   * @param {WindowModel} model
   * @param {{ pane: Pane, position: import('./cursor.js').Position | null }[]} cursors
   */
  #spoken(model, cursors) {
    const readers = cursors.map(({ pane, position }) => `${pane.title} at ${position ? position.seq : 'no position'}`);
    return `The window holds positions after ${model.oldest} up to ${model.head}. ${readers.join(', ')}.`;
  }
}
