// The publish form: presets, one event or ten, the same id again, and what the server answered.

import { byId, el, copyButton } from './dom.js';
import { newEvent, publish } from './publish.js';
import { Problem } from './problem.js';
import { shortCursor } from './cursor.js';

/** @typedef {import('./publish.js').CloudEvent} CloudEvent */
/** @typedef {import('./publish.js').PublishResult} PublishResult */

/**
 * @typedef {object} PublishHooks
 * @property {() => { user: string, topics: string[] }} reader
 * @property {(events: CloudEvent[], results: PublishResult[]) => void} onPublished
 * @property {() => void} onEdit
 */

/** @type {((reader: { user: string, topics: string[] }) => { label: string, to: string, type: string, data: unknown })[]} */
const PRESETS = [
  ({ user }) => ({ label: 'turn.ready', to: `user:${user || '42'}`, type: 'turn.ready', data: { game: 'g-7', turn: 7 } }),
  () => ({ label: 'broadcast', to: 'all', type: 'notice.posted', data: { text: 'Maintenance at 18:00', minutes: 10 } }),
  ({ topics }) => ({ label: 'news', to: `topic:${topics[0] ?? 'news'}`, type: 'article.published', data: { title: 'A new moon was found', words: 640 } }),
];

export class PublishForm {
  #hooks;
  #to = byId('to', HTMLInputElement);
  #type = byId('type', HTMLInputElement);
  #data = byId('data', HTMLTextAreaElement);
  #result = byId('publish-result', HTMLElement);
  #again = byId('publish-again', HTMLButtonElement);
  /** @type {CloudEvent | null} */
  #last = null;

  /** @param {PublishHooks} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
    this.#fill(PRESETS[0]);
    const form = byId('publish-form', HTMLFormElement);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#publish(1);
    });
    form.addEventListener('input', () => hooks.onEdit());
    byId('publish-ten', HTMLButtonElement).addEventListener('click', () => form.reportValidity() && void this.#publish(10));
    this.#again.addEventListener('click', () => this.#last && void this.#send([this.#last]));
    this.paintPresets();
  }

  /** What the form says now, for the terminal commands. */
  get draft() {
    return { to: this.#to.value.trim(), type: this.#type.value.trim(), data: this.#data.value };
  }

  /** The presets name the reader, so they follow it; a form still showing the old reader's preset does too. */
  paintPresets() {
    byId('presets', HTMLElement).replaceChildren(...PRESETS.map((preset) => {
      const { label, to } = preset(this.#hooks.reader());
      const button = el('button', 'preset', el('b', '', label), ` to ${to}`);
      button.type = 'button';
      button.addEventListener('click', () => this.#fill(preset));
      return button;
    }));
  }

  /** @param {typeof PRESETS[number]} preset */
  #fill(preset) {
    const { to, type, data } = preset(this.#hooks.reader());
    this.#to.value = to;
    this.#type.value = type;
    this.#data.value = JSON.stringify(data, null, 2);
    this.#hooks.onEdit();
  }

  /** @param {number} count */
  async #publish(count) {
    const { to, type, data } = this.draft;
    let parsed;
    try {
      parsed = data.trim() === '' ? undefined : JSON.parse(data);
    } catch (error) {
      this.#data.setAttribute('aria-invalid', 'true');
      this.#show(problemCard('Data is not JSON', String(/** @type {Error} */ (error).message), []));
      return;
    }
    this.#data.removeAttribute('aria-invalid');
    await this.#send(Array.from({ length: count }, () => newEvent(to, type, parsed)));
  }

  /** @param {CloudEvent[]} events */
  async #send(events) {
    try {
      const results = await publish(events);
      this.#last = events[events.length - 1];
      this.#again.disabled = false;
      this.#show(acceptedCard(results));
      this.#hooks.onPublished(events, results);
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem({ status: 0, title: 'The answer could not be read', detail: String(error) });
      this.#show(cardOf(problem));
    }
  }

  /** @param {HTMLElement} card */
  #show(card) {
    this.#result.replaceChildren(card);
  }
}

/** @param {PublishResult[]} results */
function acceptedCard(results) {
  const last = results[results.length - 1];
  if (!last) return problemCard('The answer names no result', '', []);
  const title = last.duplicate ? 'Duplicate: already published' : results.length > 1 ? `${results.length} accepted` : 'Accepted';
  const cursor = el('code', '', shortCursor(last.cursor));
  cursor.title = last.cursor;
  return el('div', last.duplicate ? 'answer duplicate' : 'answer',
    el('b', '', title),
    el('dl', '',
      el('div', '', el('dt', '', 'id'), el('dd', '', el('code', '', last.id))),
      el('div', '', el('dt', '', last.duplicate ? 'first cursor' : 'cursor'), el('dd', '', cursor, copyButton('the answered cursor', () => last.cursor)))));
}

/** @param {Problem} problem */
export function cardOf(problem) {
  const { title, detail, status, type, ...others } = problem.members;
  const members = Object.entries(others).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]);
  const head = [status ? String(status) : '', title ?? 'Refused'].filter(Boolean).join(' ');
  return problemCard(head, detail ?? '', members);
}

/**
 * @param {string} title
 * @param {string} detail
 * @param {string[][]} members further members of the problem, as name and value
 */
function problemCard(title, detail, members) {
  const card = el('div', 'answer problem', el('b', '', title));
  if (detail) card.append(el('p', '', detail));
  if (members.length) {
    card.append(el('dl', '', ...members.map(([name, value]) => el('div', '', el('dt', '', name), el('dd', '', el('code', '', value))))));
  }
  return card;
}
