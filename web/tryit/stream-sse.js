// A reader over server-sent events: the browser's EventSource, and around it only what EventSource lacks.
//
// EventSource reconnects by itself after a broken connection and presents the last id as Last-Event-ID; that is left to it.
// It gives up for good when the answer is not 200, and does not say why: then the same URL is asked once with fetch,
// and a problem is shown (4xx) or waited out (anything else).

import { Backoff, HEALTHY_AFTER_MS } from './backoff.js';
import { SSE_NAMES, durationMs, frameOfServerEvent } from './frame.js';
import { Problem, problemOf } from './problem.js';
import { stateAfter } from './stream-state.js';

/** @typedef {import('./stream-state.js').Hooks} Hooks */

/**
 * The stream's URL. `event=message` makes every event arrive as a plain message: EventSource has no "any type" listener.
 * @param {import('./stream-state.js').Ask} ask
 * @param {boolean} [plainMessages]
 */
export function streamUrl({ user, topics, cursor }, plainMessages = true) {
  const query = new URLSearchParams();
  if (user) query.append('user', user);
  for (const topic of topics) query.append('topic', topic);
  if (plainMessages) query.append('event', 'message');
  if (cursor) query.append('cursor', cursor);
  const url = new URL('/v1/stream', location.href);
  url.search = query.toString();
  return url.href;
}

export class SseStream {
  #hooks;
  #backoff = new Backoff();
  /** @type {EventSource | null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Rises with each open and close, so that an answer to an earlier question is not acted upon. */
  #life = 0;
  #liveSince = Infinity;
  #retryAfterMs = 0;

  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  open() {
    this.close();
    this.#hooks.onState({ name: 'connecting' });
    const source = new EventSource(streamUrl(this.#hooks.ask()));
    this.#source = source;
    source.addEventListener('message', (event) => this.#receive('event', event));
    for (const [name, kind] of SSE_NAMES) {
      source.addEventListener(name, (event) => this.#receive(kind, event));
    }
    source.addEventListener('error', () => this.#failed(source));
  }

  close() {
    this.#source?.close();
    this.#source = null;
    this.#life += 1;
    clearTimeout(this.#timer);
    this.#liveSince = Infinity;
  }

  /** The topics are part of the URL, so a change is a new connection; the cursor makes it seamless. */
  changeTopics() {
    if (this.#source) this.open();
  }

  /**
   * @param {string} kind
   * @param {MessageEvent<string>} event
   */
  #receive(kind, event) {
    const at = Date.now();
    const frame = frameOfServerEvent(kind, event.lastEventId, event.data, at);
    if (frame.kind === 'event' && at - this.#liveSince >= HEALTHY_AFTER_MS) this.#backoff.reset();
    this.#hooks.onFrame(frame);
    const state = stateAfter(frame.kind);
    if (state === 'live') this.#liveSince = at;
    if (state) this.#hooks.onState({ name: state });
    if (frame.kind === 'goodbye') this.#goodbye(frame.body);
  }

  /** @param {Record<string, any>} body */
  #goodbye(body) {
    this.#retryAfterMs = durationMs(body.retryAfter);
    if (body.reconnect !== false) return;
    // Only closing stops EventSource from coming back.
    this.close();
    this.#hooks.onState({ name: 'stopped', why: `the server said goodbye (${body.reason}) and not to come back` });
  }

  /** @param {EventSource} source */
  #failed(source) {
    if (source !== this.#source) return;
    this.#liveSince = Infinity;
    if (source.readyState === EventSource.CLOSED) {
      void this.#askWhy();
    } else {
      this.#hooks.onState({ name: 'backing-off', why: 'connection lost, EventSource reconnects by itself' });
    }
  }

  async #askWhy() {
    this.close();
    const life = this.#life;
    const problem = await problemAt(streamUrl(this.#hooks.ask()));
    if (life !== this.#life) return;
    if (problem && problem.status >= 400 && problem.status < 500 && problem.status !== 429) {
      this.#hooks.onState({ name: 'stopped', why: problem.message });
      return;
    }
    const wait = Math.max(this.#retryAfterMs, problem?.status === 429 ? this.#backoff.later() : this.#backoff.next());
    this.#retryAfterMs = 0;
    this.#hooks.onState({ name: 'backing-off', why: problem?.message ?? '', until: Date.now() + wait });
    this.#timer = setTimeout(() => this.open(), wait);
  }
}

/**
 * What the server answers to this URL, when it is not a stream.
 * @param {string} url
 * @returns {Promise<Problem | null>} null: the stream is there now
 */
async function problemAt(url) {
  const probe = new AbortController();
  try {
    const answer = await fetch(url, { signal: probe.signal, headers: { accept: 'text/event-stream' }, cache: 'no-store' });
    return answer.ok ? null : await problemOf(answer);
  } catch {
    return new Problem({ status: 0, title: 'the server does not answer' });
  } finally {
    // Only the head of the answer was wanted: this ends the stream, if it was one.
    probe.abort();
  }
}
