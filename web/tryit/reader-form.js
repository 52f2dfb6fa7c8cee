// Who reads: the user, the topics, and where a first connection starts. Kept in the page's address, so that it can be shared.

import { byId, el } from './dom.js';

/**
 * @typedef {object} ReaderHooks
 * @property {() => void} onReader another user or start: a new reader
 * @property {(added: string[], removed: string[]) => void} onTopics
 */

/** An id is 1-255 bytes without spaces, commas or control characters. */
const ID = /^[^\s,\p{Cc}]{1,255}$/u;

export class ReaderForm {
  user = '42';
  /** @type {string[]} */
  topics = ['news'];
  start = '';
  #hooks;
  #list = byId('topics', HTMLUListElement);
  #note = byId('reader-note', HTMLElement);
  #userInput = byId('user', HTMLInputElement);
  #topicInput = byId('topic', HTMLInputElement);

  /** @param {ReaderHooks} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
    this.#readAddress();
    this.#userInput.value = this.user;
    this.#paint();
    this.#listen();
  }

  #listen() {
    const form = byId('reader-form', HTMLFormElement);
    form.addEventListener('submit', (event) => event.preventDefault());
    this.#userInput.addEventListener('change', () => this.#changeUser(this.#userInput.value.trim()));
    byId('start', HTMLSelectElement).addEventListener('change', (event) => {
      this.start = /** @type {HTMLSelectElement} */ (event.target).value;
      this.#hooks.onReader();
    });
    this.#topicInput.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' || event.key === ',') {
        event.preventDefault();
        this.#add(this.#topicInput.value);
      } else if (event.key === 'Backspace' && this.#topicInput.value === '' && this.topics.length) {
        this.#remove(this.topics[this.topics.length - 1]);
      }
    });
    this.#topicInput.addEventListener('blur', () => this.#topicInput.value && this.#add(this.#topicInput.value));
  }

  /** @param {string} user */
  #changeUser(user) {
    if (user === this.user) return;
    if (user !== '' && !ID.test(user)) {
      this.#say('A user id is 1 to 255 bytes, without spaces or commas.');
      return;
    }
    this.user = user;
    this.#paint();
    this.#hooks.onReader();
  }

  /** @param {string} text */
  #add(text) {
    const topic = text.trim().replace(/^topic:/, '');
    if (topic === '') return;
    if (!ID.test(topic)) {
      this.#say('A topic is 1 to 255 bytes, without spaces or commas.');
      return;
    }
    this.#topicInput.value = '';
    if (this.topics.includes(topic)) return;
    this.topics = [...this.topics, topic];
    this.#paint();
    this.#hooks.onTopics([topic], []);
  }

  /** @param {string} topic */
  #remove(topic) {
    this.topics = this.topics.filter((name) => name !== topic);
    this.#paint();
    this.#topicInput.focus();
    this.#hooks.onTopics([], [topic]);
  }

  #paint() {
    this.#list.replaceChildren(...this.topics.map((topic) => {
      const remove = el('button', '', '×');
      remove.type = 'button';
      remove.setAttribute('aria-label', `Remove topic ${topic}`);
      remove.addEventListener('click', () => this.#remove(topic));
      return el('li', 'token', topic, remove);
    }));
    const recipients = ['all', ...(this.user ? [`user:${this.user}`] : []), ...this.topics.map((topic) => `topic:${topic}`)];
    this.#say(`Receives ${recipients.join(', ')}.`);
    byId('recipients', HTMLDataListElement).replaceChildren(...recipients.map((recipient) => {
      const option = el('option');
      option.value = recipient;
      return option;
    }));
    this.#writeAddress();
  }

  /** @param {string} text */
  #say(text) {
    this.#note.textContent = text;
  }

  #readAddress() {
    const query = new URLSearchParams(location.search);
    if (!query.has('user') && !query.has('topic')) return;
    const user = query.get('user') ?? '';
    this.user = ID.test(user) ? user : '';
    this.topics = [...new Set(query.getAll('topic').filter((topic) => ID.test(topic)))];
  }

  #writeAddress() {
    const query = new URLSearchParams();
    query.append('user', this.user);
    for (const topic of this.topics) query.append('topic', topic);
    history.replaceState(null, '', `${location.pathname}?${query}`);
  }
}
