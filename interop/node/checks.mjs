// How scenes say what must hold. Each check fails by throwing. Knows frames and statuses, and no process.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { errorInfo, grpc } from "./grpc.mjs";

// No call and no wait may hang the scenes: everything here takes milliseconds, but for what says otherwise.
export const CALL_MS = 20_000;

export const equal = (found, expected) => assert.deepEqual(found, expected);
export const holds = (condition, message) => assert.ok(condition, message);

/** Asks again and again until the condition holds. */
export async function waitUntil(condition, what, ms = CALL_MS) {
  const end = performance.now() + ms;
  while (!(await condition())) {
    assert.ok(performance.now() < end, `after ${ms} ms it still does not hold that ${what}`);
    await sleep(5);
  }
}

/** The ids of the events up to CaughtUp. A Gap on the way fails. */
export async function idsUntilCaughtUp(frames) {
  const ids = [];
  for await (const frame of frames) {
    if (frame.kind === "caught_up") return ids;
    assert.notEqual(frame.kind, "gap", `told of a gap: ${JSON.stringify(frame.gap)}`);
    if (frame.kind === "event") ids.push(frame.event.id);
  }
  throw new Error("the stream ended before CaughtUp");
}

/** The next frame that is an event. */
export async function nextEvent(frames) {
  for await (const frame of frames) if (frame.kind === "event") return frame;
  throw new Error("the stream ended before the next event");
}

/** The ids of the next so many events. */
export async function nextIds(frames, count) {
  const ids = [];
  while (ids.length < count) ids.push((await nextEvent(frames)).event.id);
  return ids;
}

/** Reads to the end; returns the frames, and the error if there was one. */
export async function rest(frames) {
  const all = [];
  try {
    for await (const frame of frames) all.push(frame);
    return { all };
  } catch (error) {
    return { all, error };
  }
}

/** The error of a call, which must fail. */
export async function failureOf(call) {
  try {
    const result = await call();
    throw new assert.AssertionError({ message: `answered ${JSON.stringify(result)}, expected a failure` });
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return error;
  }
}

/** The call must fail with this code and, if one is given, this ErrorInfo reason. */
export async function refused(call, code, reason) {
  isStatus(await failureOf(call), code, reason);
}

export function isStatus(error, code, reason) {
  assert.ok(error, `expected ${code}, not a good end`);
  assert.equal(grpc.status[error.code], code, `${error}`);
  if (!reason) return;
  const info = errorInfo(error);
  assert.ok(info, `no ErrorInfo in ${error}`);
  equal([info.domain, info.reason], ["push.v1", reason]);
}

/** The position in a cursor. Clients never look; a check of the hub may. */
export const sequence = (cursor) => Number(cursor.slice(cursor.lastIndexOf(".") + 2));

export const ids = (published) => published.map(({ id }) => id);
