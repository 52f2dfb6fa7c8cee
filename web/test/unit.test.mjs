// The page's pure parts: backoff, cursors, frames of both transports, the overflow plan, counts, shell words, and a stream over a fake EventSource.
// Run: node --test test/unit.test.mjs

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Backoff } from '../tryit/backoff.js';
import { parseCursor, shortCursor } from '../tryit/cursor.js';
import { commandsFor, shellWord } from '../tryit/commands.js';
import { durationMs, frameOfMessage, frameOfServerEvent, gapRange, headline } from '../tryit/frame.js';
import { planOverflow, runOverflow } from '../tryit/overflow.js';
import { reaches } from '../tryit/publish.js';
import { SseStream } from '../tryit/stream-sse.js';
import { verdictOf } from '../tryit/stream-ws.js';
import { Tracker } from '../tryit/tracker.js';
import { WindowModel } from '../tryit/window-model.js';

const EPOCH = 'kq3vT0a9QxW7bD2mZr5LfA';
const OTHER = 'AAAAAAAAAAAAAAAAAAAAAA';
const at = (seq, epoch = EPOCH) => `2.${epoch}.${String.fromCharCode(96 + `${seq}`.length)}${seq}`;

test('backoff grows from 200 ms to the cap and never past it, for any count of failures', () => {
  const highest = new Backoff(() => 0.999999);
  const delays = Array.from({ length: 2_000 }, () => highest.next());
  assert.deepEqual(delays.slice(0, 7).map(Math.round), [200, 400, 800, 1600, 3200, 6400, 10_000]);
  assert.ok(delays.every((delay) => delay <= 10_000));
  assert.equal(new Backoff(() => 0).next(), 0);
});

test('backoff starts over after proven health, and waits long when asked to come back later', () => {
  const backoff = new Backoff(() => 0.5);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 100);
  assert.equal(backoff.later(), 7_500);
});

test('cursor text is read for display only, and unknown versions are kept whole', () => {
  assert.deepEqual(parseCursor(at(57)), { epoch: EPOCH, seq: 57 });
  assert.equal(parseCursor(at('057')), null);
  assert.equal(parseCursor(`2.${EPOCH}.c57`), null);
  assert.equal(parseCursor(`1.${EPOCH}.57`), null);
  assert.equal(parseCursor('3.x.57'), null);
  assert.equal(parseCursor(at(0))?.seq, 0);
  assert.equal(parseCursor(undefined), null);
  assert.equal(shortCursor(at(57)), '2.kq3v….57');
  assert.equal(shortCursor('oldest'), 'oldest');
});

test('both transports give one shape of frame', () => {
  const event = { specversion: '1.0', id: 'a', source: 's', type: 't' };
  const overWs = frameOfMessage(JSON.stringify({ cursor: at(3), event }), 1);
  const overSse = frameOfServerEvent('event', at(3), JSON.stringify(event), 1);
  assert.deepEqual(overWs, overSse);
  assert.equal(frameOfMessage(`{"cursor":"${at(9)}","progress":{}}`, 1).kind, 'progress');
  assert.equal(frameOfMessage('{"cursor":"","later":{}}', 1).kind, 'unknown');
  assert.equal(frameOfMessage('not json', 1).kind, 'unknown');
});

test('a gap says its range and its count, also when that is unknowable', () => {
  const gap = frameOfMessage(JSON.stringify({ cursor: at(22), gap: { reason: 'TRIMMED', from: at(3), to: at(22), count: '19' } }), 1);
  assert.equal(headline(gap), 'up to 19 events missed');
  assert.equal(gapRange(gap.body), '#3 → #22');
  assert.equal(headline({ ...gap, body: { reason: 'EPOCH_CHANGED' } }), 'an unknown number of events missed');
});

test('durations in their JSON form', () => {
  assert.equal(durationMs('5s'), 5000);
  assert.equal(durationMs('0.250s'), 250);
  assert.equal(durationMs(undefined), 0);
  assert.equal(durationMs('soon'), 0);
});

test('the tracker keeps the last non-empty cursor and counts a position delivered twice', () => {
  const tracker = new Tracker();
  const event = (cursor, id) => ({ kind: 'event', cursor, body: { source: 's', id }, at: 1 });
  assert.equal(tracker.take(event(at(1), 'a')), false);
  assert.equal(tracker.take(event('', 'ephemeral')), false);
  assert.equal(tracker.cursor, at(1));
  assert.equal(tracker.take(event(at(1), 'another ephemeral, shown with the id before it')), false);
  assert.equal(tracker.take(event(at(1), 'a')), true);
  tracker.take({ kind: 'gap', cursor: at(9), body: {}, at: 1 });
  assert.deepEqual([tracker.cursor, tracker.events, tracker.duplicates, tracker.gaps], [at(9), 4, 1, 1]);
});

test('the overflow goes by events when they are few, by bytes when they are many, and not at all when both are', () => {
  const limits = { events: 500, bytes: 268_435_456, eventBytes: 65_536, age: '600s' };
  assert.deepEqual(planOverflow(limits), { by: 'events', events: 516, dataBytes: 0, batch: 250 });
  const large = planOverflow({ ...limits, events: 1_048_576 });
  assert.equal(large?.by, 'bytes');
  assert.ok(large.events * large.dataBytes > limits.bytes);
  assert.ok(large.batch * (large.dataBytes + 300) < 4 * 1024 * 1024);
  assert.ok(large.dataBytes + 2 <= limits.eventBytes);
  assert.equal(planOverflow({ ...limits, events: 1_048_576, bytes: 8 * 2 ** 30 }), null);
});

test('the overflow sends one event to the cut reader and then exactly its fillers, and stops at a refusal', async () => {
  const plan = { by: /** @type {const} */ ('events'), events: 516, dataBytes: 0, batch: 250 };
  const sent = [];
  await runOverflow(plan, 'user:42', async (events) => sent.push(events), () => {});
  assert.deepEqual(sent.map((events) => events.length), [1, 250, 250, 16]);
  assert.equal(sent[0][0].to, 'user:42');
  assert.equal(new Set(sent.flat().map((event) => event.id)).size, 517);
  let calls = 0;
  const refuse = async () => { calls += 1; throw new Error('no'); };
  await assert.rejects(runOverflow(plan, 'user:42', refuse, () => {}), /no/);
  assert.equal(calls, 1);
});

test('who is reached by a list of recipients', () => {
  assert.equal(reaches('user:7, user:42', '42', []), true);
  assert.equal(reaches('topic:news', '42', ['news']), true);
  assert.equal(reaches('all', '', []), true);
  assert.equal(reaches('user:', '', []), false);
  assert.equal(reaches('user:7,topic:sport', '42', ['news']), false);
});

test('close codes say whether to come back', () => {
  for (const code of [4400, 4401, 4403]) assert.equal(verdictOf(code, '').back, 'stop');
  assert.equal(verdictOf(1012, '').back, 'soon');
  assert.equal(verdictOf(1013, '').back, 'later');
  assert.equal(verdictOf(4429, '').back, 'later');
  assert.equal(verdictOf(1006, '').back, 'soon');
  assert.match(verdictOf(4400, 'CURSOR_MALFORMED').why, /4400 .*CURSOR_MALFORMED/);
});

test('the window follows the head by count, and another epoch replaces it', () => {
  const model = new WindowModel();
  const frame = (kind, cursor, body = {}) => ({ kind, cursor, body, at: 1 });
  model.see(frame('welcome', at(10), { head: at(10), oldest: at(2), limits: { windowEvents: '100' } }));
  assert.deepEqual([model.oldest, model.head], [2, 10]);
  model.see(frame('event', at(150)));
  assert.deepEqual([model.oldest, model.head], [50, 150]);
  model.leave(at(60));
  model.leave(at(55)); // what has left does not come back
  model.leave(at(140, OTHER));
  assert.equal(model.oldest, 60);
  model.see(frame('event', at(900, OTHER)));
  assert.equal(model.head, 150);
  model.see(frame('gap', at(4, OTHER), { to: at(4, OTHER) }));
  assert.deepEqual([model.epoch, model.oldest, model.head], [OTHER, 0, 4]);
});

test('shell words survive a shell', () => {
  assert.equal(shellWord('user:42'), 'user:42');
  assert.equal(shellWord(`{"a":"it's"}`), `'{"a":"it'\\''s"}'`);
  assert.equal(shellWord('http://h/?a=1&b=2'), `'http://h/?a=1&b=2'`);
});

test('the publish command names the hub where it would not be found by itself', () => {
  globalThis.location ??= /** @type {any} */ (new URL('http://127.0.0.1:8080/'));
  const now = { user: '42', topics: [], cursor: '', draft: { to: 'user:42', type: 'turn.ready', data: '{"turn": 7}' } };
  const publish = (hub) => commandsFor({ ...now, hub }).find(([name]) => name === 'Publish')?.[1];
  assert.equal(publish(''), `galaxy-push publish --to user:42 --type turn.ready '{"turn":7}'`);
  assert.equal(publish('http://127.0.0.1:7500'), `galaxy-push publish --hub http://127.0.0.1:7500 --to user:42 --type turn.ready '{"turn":7}'`);
});

test('an answer that comes after a person has cut the stream opens none', async (t) => {
  const sources = [];
  class FakeSource {
    static CLOSED = 2;
    readyState = 0;
    listeners = new Map();
    constructor() {
      sources.push(this);
    }
    addEventListener(name, listener) {
      this.listeners.set(name, listener);
    }
    close() {
      this.readyState = FakeSource.CLOSED;
    }
  }
  let answer;
  const fakes = {
    EventSource: FakeSource,
    fetch: () => new Promise((resolve) => { answer = resolve; }),
    location: { href: 'http://127.0.0.1:8080/' },
  };
  for (const [name, value] of Object.entries(fakes)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  const states = [];
  const hooks = {
    ask: () => ({ user: 'ada', topics: [], cursor: '' }),
    onFrame: () => {},
    onState: (state) => states.push(state.name),
  };
  const stream = new SseStream(hooks);
  const isRefused = async () => {
    stream.open();
    sources.at(-1).close();
    sources.at(-1).listeners.get('error')();
    await new Promise(setImmediate);
  };
  await isRefused();
  answer({ ok: true });
  await new Promise(setImmediate);
  assert.deepEqual(states, ['connecting', 'backing-off'], 'nobody has cut it: it comes back');
  stream.close();

  states.length = 0;
  await isRefused();
  stream.close();
  answer({ ok: true });
  await new Promise(setImmediate);
  assert.deepEqual(states, ['connecting']);
  stream.close();
});
