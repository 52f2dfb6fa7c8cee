// One pane: a reader, the stream it reads through, and what is shown of both.
// main.js makes two of them, which differ in the stream only.

import { byId, copyButton, counted, grouped, pick } from './dom.js';
import { positionText, shortCursor } from './cursor.js';
import { note } from './frame.js';
import { FramesView } from './frames-view.js';
import { STATE_TEXT } from './stream-state.js';
import { Tracker } from './tracker.js';

/** @typedef {import('./stream-state.js').State} State */
/** @typedef {import('./stream-state.js').Stream} Stream */
/** @typedef {import('./stream-state.js').Hooks} Hooks */

/**
 * @typedef {object} PaneOptions
 * @property {string} key "sse" or "ws"
 * @property {string} title
 * @property {string} path
 * @property {(hooks: Hooks) => Stream} stream
 * @property {() => { user: string, topics: string[], start: string }} reader
 * @property {(frame: import('./frame.js').Frame) => void} onFrame
 * @property {() => void} onChange the cursor or the state has changed
 */

export class Pane {
  tracker = new Tracker();
  /** @type {State} */
  state = { name: 'connecting' };
  #options;
  #stream;
  #root;
  #frames;
  #parts;
  #dirty = false;

  /** @param {PaneOptions} options */
  constructor(options) {
    this.#options = options;
    const copy = byId('pane-template', HTMLTemplateElement).content.cloneNode(true);
    this.#root = pick(/** @type {DocumentFragment} */ (copy), '.pane', HTMLElement);
    this.#parts = partsOf(this.#root);
    this.#frames = new FramesView(this.#parts.frames);
    this.#label();
    this.#stream = options.stream({
      ask: () => {
        const { user, topics, start } = options.reader();
        return { user, topics, cursor: this.tracker.cursor || start };
      },
      onFrame: (frame) => {
        this.#frames.add(frame, this.tracker.take(frame));
        options.onFrame(frame);
        this.#changed();
      },
      onState: (state) => this.#enter(state),
    });
  }

  get key() {
    return this.#options.key;
  }

  get title() {
    return this.#options.title;
  }

  get isCut() {
    return this.state.name === 'cut';
  }

  /** Whether a stream is delivering: then the cursor may lag behind what was passed over, but nothing can be lost. */
  get isServed() {
    return ['catching-up', 'live', 'behind'].includes(this.state.name);
  }

  /** @param {HTMLElement} parent */
  mount(parent) {
    parent.append(this.#root);
    // The countdown and "n s ago" move with the clock, not with frames.
    setInterval(() => this.#paintClock(), 200);
  }

  /** Connects as a new reader, with nothing kept. */
  restart() {
    this.tracker.forget();
    this.#frames.clear();
    this.#stream.open();
    this.#changed();
  }

  cut() {
    this.#stream.close();
    this.tracker.startOfCut();
    this.#frames.add(note(`cut; the cursor stays at ${positionText(this.tracker.cursor) || 'nothing'}`));
    this.#enter({ name: 'cut' });
  }

  resume() {
    this.#frames.add(note(`resumed after ${positionText(this.tracker.cursor) || 'nothing'}`));
    this.#stream.open();
  }

  /**
   * @param {string[]} added
   * @param {string[]} removed
   */
  changeTopics(added, removed) {
    this.#stream.changeTopics(added, removed);
  }

  /**
   * This page published something.
   * @param {number} all
   * @param {number} mine
   */
  published(all, mine) {
    if (!this.isCut) return;
    this.tracker.published(all, mine);
    this.#changed();
  }

  #label() {
    const { key, title, path } = this.#options;
    this.#root.dataset.pane = key;
    this.#root.setAttribute('aria-label', title);
    this.#parts.title.textContent = title;
    this.#parts.path.textContent = path;
    this.#parts.progress.title = 'The last Progress frame: everything up to it was delivered';
    this.#parts.frames.setAttribute('aria-label', `Frames received over ${title}`);
    this.#parts.cursor.after(copyButton(`the cursor of ${title}`, () => this.tracker.cursor));
    this.#parts.toggle.addEventListener('click', () => (this.isCut || this.state.name === 'stopped' ? this.resume() : this.cut()));
    this.#parts.again.addEventListener('click', () => this.restart());
  }

  /** @param {State} state */
  #enter(state) {
    this.state = state;
    this.#changed();
  }

  /** Thousands of frames may arrive between two paints; one paint shows them all. */
  #changed() {
    if (this.#dirty) return;
    this.#dirty = true;
    requestAnimationFrame(() => {
      this.#dirty = false;
      this.#paint();
      this.#options.onChange();
    });
  }

  #paint() {
    const { tracker, state } = this;
    const parts = this.#parts;
    this.#root.dataset.state = state.name;
    setText(parts.stateText, STATE_TEXT[state.name]);
    setText(parts.toggle, this.isCut || state.name === 'stopped' ? 'Resume' : 'Cut');
    parts.toggle.setAttribute('aria-label', `${parts.toggle.textContent} ${this.title}`);
    parts.again.setAttribute('aria-label', `Start ${this.title} over`);
    parts.cursor.textContent = tracker.cursor ? shortCursor(tracker.cursor) : 'none';
    parts.cursor.title = tracker.cursor;
    parts.events.textContent = grouped(tracker.events);
    parts.gaps.textContent = grouped(tracker.gaps);
    parts.gaps.classList.toggle('raised', tracker.gaps > 0);
    parts.duplicates.textContent = grouped(tracker.duplicates);
    parts.duplicates.classList.toggle('raised', tracker.duplicates > 0);
    const banner = this.#bannerText();
    parts.banner.hidden = banner === '';
    setText(parts.banner, banner);
    this.#paintClock();
  }

  #bannerText() {
    const { name, why } = this.state;
    if (name === 'stopped') return `Stopped, ${why}.`;
    if (name === 'backing-off') return why ? `${why[0].toUpperCase()}${why.slice(1)}.` : '';
    if (name !== 'cut') return '';
    const { all, mine } = this.tracker.since;
    return `Cut at ${positionText(this.tracker.cursor) || 'nothing'}. `
      + (all === 0 ? 'Nothing published since.' : `${counted(all, 'event')} published since, ${grouped(mine)} for this reader.`);
  }

  #paintClock() {
    const { until, name } = this.state;
    const left = name === 'backing-off' && until ? Math.max(0, until - Date.now()) : null;
    setText(this.#parts.stateLeft, left === null ? '' : `${(left / 1000).toFixed(1)} s`);
    const progress = this.tracker.progress;
    setText(this.#parts.progress, progress
      ? `${positionText(progress.cursor)}, ${Math.round((Date.now() - progress.at) / 1000)} s ago`
      : 'none yet');
  }
}

/**
 * Unchanged text is left alone: a live region would say it again.
 * @param {HTMLElement} element
 * @param {string} text
 */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {HTMLElement} root */
function partsOf(root) {
  return {
    title: pick(root, '.pane-title', HTMLElement),
    path: pick(root, '.pane-path', HTMLElement),
    stateText: pick(root, '.state-text', HTMLElement),
    stateLeft: pick(root, '.state-left', HTMLElement),
    toggle: pick(root, '.toggle', HTMLButtonElement),
    again: pick(root, '.again', HTMLButtonElement),
    cursor: pick(root, '.cursor', HTMLElement),
    events: pick(root, '.events', HTMLElement),
    gaps: pick(root, '.gaps', HTMLElement),
    duplicates: pick(root, '.duplicates', HTMLElement),
    progress: pick(root, '.progress-text', HTMLElement),
    banner: pick(root, '.banner', HTMLElement),
    frames: pick(root, '.frames', HTMLOListElement),
  };
}
