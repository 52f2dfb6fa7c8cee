// How scenes say what must hold. Each check fails by throwing. Knows turns and what readers hand over, and no process.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

// No wait may hang the scenes. Readers wait for seconds before they reconnect, and the machine may be busy.
export const PATIENCE_MS = 40_000;

export const equal = (found, expected, message) => assert.deepEqual(found, expected, message);
export const holds = (condition, message) => assert.ok(condition, message);

/** Asks again and again until the condition holds. */
export async function waitUntil(condition, what, ms = PATIENCE_MS) {
  const end = performance.now() + ms;
  while (!(await condition())) {
    assert.ok(performance.now() < end, `after ${ms} ms it still does not hold that ${typeof what === "string" ? what : what()}`);
    await sleep(10);
  }
}
