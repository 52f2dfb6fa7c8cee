// A reader over WebSocket, subprotocol `push.v1.json`: connects, presents its cursor, and comes back by itself.
//
// A browser shows no WebSocket pings to a script, but the edge sends a Progress with each of them, so silence still means death.

import { Backoff, HEALTHY_AFTER_MS } from './backoff.js';
import { durationMs, frameOfMessage } from './frame.js';
import { stateAfter } from './stream-state.js';

/** @typedef {import('./stream-state.js').Hooks} Hooks */

/** Connect and Welcome deadlines, 5 s each. */
const WELCOME_WITHIN_MS = 10_000;
/** Two pings and a margin: a peer that has said nothing for so long is dead. */
const SILENCE_MS = 60_000;

/**
 * @typedef {object} Verdict
 * @property {'stop' | 'soon' | 'later'} back whether, and how eagerly, to come back
 * @property {string} why
 */

/** @type {Map<number, Verdict>} */
const CLOSE_CODES = new Map([
  [4400, { back: 'stop', why: 'bad request or cursor' }],
  [4401, { back: 'stop', why: 'token ended or session invalidated' }],
  [4403, { back: 'stop', why: 'not granted' }],
  [4429, { back: 'later', why: 'too many connections' }],
  [1012, { back: 'soon', why: 'the edge is draining' }],
  [1013, { back: 'later', why: 'slow or overloaded' }],
]);

/**
 * @param {number} code
 * @param {string} reason what the server added
 * @returns {Verdict & { code: number }}
 */
export function verdictOf(code, reason) {
  const known = CLOSE_CODES.get(code) ?? { back: 'soon', why: code === 1006 ? 'connection lost' : 'closed' };
  const words = reason ? `${known.why}: ${reason}` : known.why;
  return { back: known.back, why: `${code} ${words}`, code };
}

export class WsStream {
  #hooks;
  #backoff = new Backoff();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline;
  #liveSince = Infinity;
  #retryAfterMs = 0;

  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  open() {
    this.close();
    this.#hooks.onState({ name: 'connecting' });
    const url = new URL('/v1/ws', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url, 'push.v1.json');
    this.#socket = socket;
    this.#expect(socket, WELCOME_WITHIN_MS, 'no Welcome in time');
    socket.addEventListener('open', () => socket.send(JSON.stringify({ connect: this.#connect() })));
    socket.addEventListener('message', (message) => this.#receive(socket, String(message.data)));
    socket.addEventListener('close', (close) => this.#closed(socket, verdictOf(close.code, close.reason)));
  }

  close() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    clearTimeout(this.#retry);
    clearTimeout(this.#deadline);
    this.#liveSince = Infinity;
  }

  /**
   * On a live connection; one that is still being made asks for the newest topics by itself.
   * @param {string[]} added
   * @param {string[]} removed
   */
  changeTopics(added, removed) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (added.length) this.#socket.send(JSON.stringify({ subscribe: { topics: added } }));
    if (removed.length) this.#socket.send(JSON.stringify({ unsubscribe: { topics: removed } }));
  }

  #connect() {
    const { user, topics, cursor } = this.#hooks.ask();
    return { ...(user && { user }), ...(topics.length && { topics }), ...(cursor && { cursor }) };
  }

  /**
   * @param {WebSocket} socket
   * @param {string} text
   */
  #receive(socket, text) {
    if (socket !== this.#socket) return;
    const at = Date.now();
    const frame = frameOfMessage(text, at);
    this.#expect(socket, SILENCE_MS, 'silent for too long');
    const moves = frame.kind === 'event' || frame.kind === 'progress';
    if (moves && at - this.#liveSince >= HEALTHY_AFTER_MS) this.#backoff.reset();
    this.#hooks.onFrame(frame);
    const state = stateAfter(frame.kind);
    if (state === 'live') this.#liveSince = at;
    if (state) this.#hooks.onState({ name: state });
    if (frame.kind === 'goodbye') this.#retryAfterMs = durationMs(frame.body.retryAfter);
  }

  /**
   * @param {WebSocket} socket
   * @param {number} within
   * @param {string} why
   */
  #expect(socket, within, why) {
    clearTimeout(this.#deadline);
    // The close event may take as long as the dead peer does, so it is not waited for.
    this.#deadline = setTimeout(() => {
      this.#closed(socket, { back: 'soon', why, code: 0 });
      socket.close();
    }, within);
  }

  /**
   * @param {WebSocket} socket
   * @param {Verdict & { code: number }} verdict
   */
  #closed(socket, verdict) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#liveSince = Infinity;
    clearTimeout(this.#deadline);
    if (verdict.back === 'stop') {
      this.#hooks.onState({ name: 'stopped', why: verdict.why });
      return;
    }
    const jittered = verdict.back === 'later' ? this.#backoff.later() : this.#backoff.next();
    const wait = Math.max(jittered, this.#retryAfterMs);
    this.#retryAfterMs = 0;
    this.#hooks.onState({ name: 'backing-off', why: verdict.why, until: Date.now() + wait });
    this.#retry = setTimeout(() => this.open(), wait);
  }
}
