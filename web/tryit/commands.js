// The commands that do from a terminal what the page does, ready to copy.

import { byId, copyButton, el } from './dom.js';
import { streamUrl } from './stream-sse.js';

/** Where `galaxy-push` looks by itself. */
const DEFAULT_HUB = 'http://127.0.0.1:7400';

/** What `--hub` has to say for the commands to reach the hub of this page: nothing where they do without. */
export async function hubToName() {
  try {
    const { hub } = await (await fetch('/tryit/hub.json')).json();
    return typeof hub === 'string' && hub !== DEFAULT_HUB ? hub : '';
  } catch {
    return '';
  }
}

/**
 * One word of a POSIX shell.
 * @param {string} text
 */
export function shellWord(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * @typedef {object} Situation
 * @property {string} user
 * @property {string[]} topics
 * @property {string} cursor where the EventSource pane stands
 * @property {string} hub where `galaxy-push publish` finds the hub; empty where it finds it by itself, or nobody knows
 * @property {{ to: string, type: string, data: string }} draft
 */

/**
 * @param {Situation} now
 * @returns {[string, string][]} name and command
 */
export function commandsFor({ user, topics, cursor, hub, draft }) {
  const stream = streamUrl({ user, topics, cursor: '' }, false);
  const resume = cursor ? ` -H ${shellWord(`Last-Event-ID: ${cursor}`)}` : '';
  const connect = { connect: { ...(user && { user }), ...(topics.length && { topics }) } };
  const ws = stream.replace(/^http/, 'ws').replace(/\/v1\/stream.*$/, '/v1/ws');
  const data = compactJson(draft.data);
  return [
    ['Read', `curl -N ${shellWord(stream)}`],
    ['Resume', `curl -N${resume} ${shellWord(stream)}`],
    ['WebSocket', `echo ${shellWord(JSON.stringify(connect))} | websocat -n --protocol push.v1.json ${ws}`],
    ['Publish', ['galaxy-push publish', hub && `--hub ${shellWord(hub)}`, '--to', shellWord(draft.to), '--type', shellWord(draft.type), data && shellWord(data)].filter(Boolean).join(' ')],
  ];
}

/** @param {string} text */
function compactJson(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text.trim();
  }
}

/** @param {Situation} now */
export function paintCommands(now) {
  const list = byId('commands', HTMLElement);
  const rows = commandsFor(now);
  if (list.childElementCount === 0) {
    for (const [name] of rows) {
      const code = el('code');
      list.append(el('div', '', el('dt', '', name), el('dd', '', code, copyButton(`the ${name} command`, () => code.textContent ?? ''))));
    }
  }
  list.querySelectorAll('dd > code').forEach((code, index) => {
    const text = rows[index][1];
    if (code.textContent === text) return;
    code.textContent = text;
    code.setAttribute('title', text);
  });
}
