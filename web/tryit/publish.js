// Publishing through the edge: CloudEvents 1.0 over `POST /v1/events`, structured for one event, batch for more.
// Called by the publish form and by the overflow; shows nothing itself.

import { Problem, problemOf } from './problem.js';

/**
 * @typedef {object} CloudEvent
 * @property {'1.0'} specversion
 * @property {string} id with the source, what makes a publish idempotent
 * @property {string} source
 * @property {string} type
 * @property {string} to recipients, comma-separated
 * @property {string} datacontenttype
 * @property {unknown} [data]
 */

/** @typedef {{ id: string, cursor: string, duplicate?: boolean }} PublishResult */

/**
 * @param {string} to
 * @param {string} type
 * @param {unknown} data
 * @returns {CloudEvent}
 */
export function newEvent(to, type, data) {
  return { specversion: '1.0', id: randomId(), source: '/try-it', type, to, datacontenttype: 'application/json', data };
}

/** Not `crypto.randomUUID`: that exists on secure origins only. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * @param {CloudEvent[]} events
 * @param {AbortSignal} [signal]
 * @returns {Promise<PublishResult[]>} in the order of the events
 * @throws {Problem} when nothing was accepted, or that is not known
 */
export async function publish(events, signal) {
  const single = events.length === 1;
  const answer = await post(single ? 'application/cloudevents+json' : 'application/cloudevents-batch+json',
    JSON.stringify(single ? events[0] : events), signal);
  if (!answer.ok) throw await problemOf(answer);
  const json = await answer.json();
  return json.results ?? [];
}

/**
 * @param {string} contentType
 * @param {string} body
 * @param {AbortSignal} [signal]
 */
async function post(contentType, body, signal) {
  try {
    return await fetch('/v1/events', { method: 'POST', headers: { 'content-type': contentType }, body, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ status: 0, title: 'The server does not answer', detail: 'publish again under the same id when it does: it counts once' });
  }
}

/**
 * Whether an event for `to` reaches this reader.
 * @param {string} to
 * @param {string} user
 * @param {string[]} topics
 */
export function reaches(to, user, topics) {
  return to.split(',').some((part) => {
    const recipient = part.trim();
    if (recipient === 'all') return true;
    if (recipient.startsWith('user:')) return user !== '' && recipient === `user:${user}`;
    return recipient.startsWith('topic:') && topics.includes(recipient.slice('topic:'.length));
  });
}
