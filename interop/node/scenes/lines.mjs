// Broken lines: whatever happens to a connection, every event comes once and in order. SCENES.md says what each scene must show.

import { setTimeout as sleep } from "node:timers/promises";

import { equal, holds, ids, idsUntilCaughtUp, isStatus, nextIds, rest } from "../checks.mjs";
import { PINGING } from "../gateway.mjs";
import { grpc } from "../grpc.mjs";

const CUTS = 9;

async function resumes_across_cancelled_calls(stage) {
  return cutAndResume(stage, (hub, number) => ({ address: hub.address, framesLeft: 1 + Math.floor(number * 39) }));
}

async function resumes_across_cut_connections(stage) {
  return cutAndResume(stage, async (hub, number) => stage.line(hub, { cutAfter: cutAfter(number) }));
}

async function resumes_across_reset_connections(stage) {
  return cutAndResume(stage, async (hub, number) => stage.line(hub, { cutAfter: cutAfter(number), reset: true }));
}

const cutAfter = (number) => 200 + Math.floor(number * 5800);

/** Reads while somebody publishes, over connections that `nextCut` spoils. */
async function cutAndResume(stage, nextCut) {
  const hub = await stage.startHub();
  const client = stage.client();
  const first = stage.stream(client, hub.address);
  equal((await first.next()).kind, "welcome"); // from here on, nothing may be lost
  first.close();
  const [expected, received] = [[], []];
  let enough = false;
  // Until the last cut: a line that is cut after so many bytes needs somebody who sends them.
  const publishing = (async () => {
    const publisher = stage.publisher(hub);
    for (; !enough; await sleep(5)) expected.push(...ids(await stage.publish(publisher, 4)));
  })();
  for (let cut = 1; cut <= CUTS; cut++) {
    const { address, framesLeft = Infinity } = await nextCut(hub, (cut * 0.618034) % 1);
    await readUntilCut(stage.stream(client, address), framesLeft, received);
  }
  enough = true;
  await publishing;
  received.push(...(await idsUntilCaughtUp(stage.stream(client, hub.address))));
  holds(expected.length > 100, `only ${expected.length} events were published`);
  equal(received, expected);
  return `${received.length} events over ${CUTS} cuts`;
}

/** Reads so many frames and cuts, or reads until the line is cut; what was read counts as handled. */
async function readUntilCut(frames, framesLeft, received) {
  try {
    for await (const frame of frames) {
      holds(frame.kind !== "gap", "told of a gap inside the window");
      if (frame.kind === "event") received.push(frame.event.id);
      framesLeft -= 1;
      if (framesLeft <= 0) break;
    }
  } catch (error) {
    if (error.code === undefined || error.code === "ERR_ASSERTION") throw error;
    holds(error.code !== grpc.status.DEADLINE_EXCEEDED, "the line was never cut");
  } finally {
    frames.close();
  }
}

async function resumes_across_a_half_open_line(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const client = stage.client();
  const line = await stage.line(hub);
  let frames = stage.stream(client, line.address, { options: PINGING });
  equal((await frames.next()).kind, "welcome");
  const before = await stage.publish(publisher, 3);
  equal(await nextIds(frames, 3), ids(before));
  line.freeze();
  const missed = await stage.publish(publisher, 3);
  const { all, error } = await rest(frames);
  isStatus(error, "UNAVAILABLE");
  holds(!all.some(({ kind }) => kind === "event"), "an event passed a frozen line");
  // The hub has not noticed anything: for it the older stream is still open.
  equal(await hub.streams(), 1);
  frames = stage.stream(client, hub.address);
  equal((await frames.next()).welcome.outcome, "OUTCOME_RESUMED");
  equal(await idsUntilCaughtUp(frames), ids(missed));
  await hub.waitForStreams(1);
}

export const SCENES = [
  resumes_across_cancelled_calls,
  resumes_across_cut_connections,
  resumes_across_reset_connections,
  resumes_across_a_half_open_line,
];
