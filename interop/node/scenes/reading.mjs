// Where a reader starts and what it is told. SCENES.md says what each scene must show.

import { equal, holds, ids, idsUntilCaughtUp, isStatus, nextEvent, nextIds, rest, sequence } from "../checks.mjs";
import { grpc } from "../grpc.mjs";

async function frames_come_in_order(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const published = await stage.publish(publisher, 3);
  const frames = stage.stream(stage.client("old-gateway", published[0].cursor), hub.address);
  const welcome = await frames.next();
  equal([welcome.kind, welcome.cursor, welcome.welcome.outcome], ["welcome", published[0].cursor, "OUTCOME_RESUMED"]);
  equal(welcome.welcome.head, published[2].cursor);
  holds(Number(welcome.welcome.generation) > 0, "no generation");
  for (const expected of published.slice(1)) equal(idAndCursor(await frames.next()), expected);
  const caughtUp = await frames.next();
  equal([caughtUp.kind, caughtUp.cursor], ["caught_up", published[2].cursor]);
  const [live] = await stage.publish(publisher, 1);
  equal(idAndCursor(await frames.next()), live);
}

const idAndCursor = ({ event, cursor }) => ({ id: event.id, cursor });

async function empty_starts_at_the_head(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const published = await stage.publish(publisher, 3);
  const frames = stage.stream(stage.client(), hub.address);
  const welcome = await frames.next();
  equal([welcome.cursor, welcome.welcome.outcome], [published[2].cursor, "OUTCOME_FRESH"]);
  equal(await idsUntilCaughtUp(frames), []);
  const live = await stage.publish(publisher, 1);
  equal(await nextIds(frames, 1), ids(live));
}

async function oldest_starts_at_the_oldest(stage) {
  const hub = await stage.startHub("--window-events", "8");
  const published = await stage.publish(stage.publisher(hub), 10);
  const frames = stage.stream(stage.client("old-gateway", "oldest"), hub.address);
  const welcome = await frames.next();
  equal([welcome.cursor, welcome.welcome.outcome], [published[1].cursor, "OUTCOME_FRESH"]);
  equal(await idsUntilCaughtUp(frames), ids(published.slice(2)));
}

async function head_pairs_with_a_stream(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  await stage.publish(publisher, 5);
  const head = await stage.head(publisher);
  const later = await stage.publish(publisher, 5);
  const frames = stage.stream(stage.client("old-gateway", head), hub.address);
  equal((await frames.next()).welcome.outcome, "OUTCOME_RESUMED");
  equal(await idsUntilCaughtUp(frames), ids(later));
}

async function a_trimmed_reader_is_told(stage) {
  const hub = await stage.startHub("--window-events", "8");
  const publisher = stage.publisher(hub);
  const early = await stage.publish(publisher, 4);
  const client = stage.client("old-gateway", early[3].cursor);
  const late = await stage.publish(publisher, 20);
  let frames = stage.stream(client, hub.address);
  const welcome = await frames.next();
  equal([welcome.cursor, welcome.welcome.outcome], [early[3].cursor, "OUTCOME_TRIMMED"]);
  const frame = await frames.next();
  equal([frame.kind, frame.gap.reason], ["gap", "GAP_REASON_TRIMMED"]);
  // Missing is (from, to]: the last of the missed ones is the one before the oldest held.
  equal([frame.gap.from, frame.gap.to, frame.cursor, frame.gap.count], [early[3].cursor, late[11].cursor, late[11].cursor, "12"]);
  frames.close();
  // Cut right after the Gap: its cursor crosses the hole, so it is told once and the rest follows.
  frames = stage.stream(client, hub.address);
  equal((await frames.next()).welcome.outcome, "OUTCOME_RESUMED");
  equal(await idsUntilCaughtUp(frames), ids(late.slice(12)));
}

async function a_lost_log_is_told(stage) {
  let hub = await stage.startHub();
  const quickly = { "grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 200 };
  const channel = stage.channel(hub.address, quickly);
  const client = stage.client();
  let frames = stage.streamOn(client, channel);
  equal((await frames.next()).kind, "welcome");
  const before = await stage.publish(stage.publisher(hub), 3);
  equal(await nextIds(frames, 3), ids(before));
  await hub.kill();
  isStatus((await rest(frames)).error, "UNAVAILABLE");
  hub = await stage.startHubAt(hub.address);
  const after = await stage.publish(stage.publisher(hub), 3);
  frames = stage.streamOn(client, channel, { metadata: new grpc.Metadata({ waitForReady: true }) });
  const welcome = await frames.next();
  equal([welcome.cursor, welcome.welcome.outcome], [before[2].cursor, "OUTCOME_EPOCH_CHANGED"]);
  const frame = await frames.next();
  equal([frame.kind, frame.gap.reason], ["gap", "GAP_REASON_EPOCH_CHANGED"]);
  equal(await idsUntilCaughtUp(frames), ids(after));
}

async function a_foreign_cursor_counts_as_another_epoch(stage) {
  const hub = await stage.startHub();
  const published = await stage.publish(stage.publisher(hub), 2);
  const frames = stage.stream(stage.client("old-gateway", "9.from-the-future"), hub.address);
  const welcome = await frames.next();
  equal([welcome.cursor, welcome.welcome.outcome], ["9.from-the-future", "OUTCOME_EPOCH_CHANGED"]);
  equal((await frames.next()).kind, "gap");
  equal(await idsUntilCaughtUp(frames), ids(published));
}

async function a_reader_ahead_is_told(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const head = (await stage.publish(publisher, 2))[1].cursor;
  const ahead = head.replace(/[a-t]\d+$/, `d${sequence(head) + 1000}`);
  const frames = stage.stream(stage.client("old-gateway", ahead), hub.address);
  equal((await frames.next()).welcome.outcome, "OUTCOME_AHEAD");
  const frame = await frames.next();
  equal([frame.kind, frame.gap.reason, frame.cursor], ["gap", "GAP_REASON_AHEAD", head]);
  equal(await idsUntilCaughtUp(frames), []);
  const [live] = await stage.publish(publisher, 1);
  equal((await frames.next()).cursor, live.cursor);
}

async function a_malformed_cursor_is_a_told_gap(stage) {
  const hub = await stage.startHub();
  const neighbour = stage.stream(stage.client("neighbour"), hub.address);
  equal((await neighbour.next()).kind, "welcome");
  for (const cursor of ["garbage", "Oldest", "2.2", "9 9", "3".repeat(129), "3".repeat(60_000)]) {
    const frames = stage.stream(stage.client("old-gateway", cursor), hub.address);
    equal((await frames.next()).welcome.outcome, "OUTCOME_EPOCH_CHANGED");
    const { gap } = await frames.next();
    equal([gap.reason, gap.from], ["GAP_REASON_CURSOR_UNREADABLE", ""]);
    equal(await idsUntilCaughtUp(frames), []);
  }
  const [published] = await stage.publish(stage.publisher(hub), 1);
  equal((await nextEvent(neighbour)).event.id, published.id);
}

export const SCENES = [
  frames_come_in_order,
  empty_starts_at_the_head,
  oldest_starts_at_the_oldest,
  head_pairs_with_a_stream,
  a_trimmed_reader_is_told,
  a_lost_log_is_told,
  a_foreign_cursor_counts_as_another_epoch,
  a_reader_ahead_is_told,
  a_malformed_cursor_is_a_told_gap,
];
