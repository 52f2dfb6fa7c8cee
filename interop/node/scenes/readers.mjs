// Readers that take part of the log, take small frames, or take their time. SCENES.md says what each scene must show.

import { equal, holds, ids, idsUntilCaughtUp, nextIds, refused, sequence } from "../checks.mjs";
import { DATA, GOAWAY } from "../line.mjs";
import { data } from "../stage.mjs";

// Large events, so that the few hundred KiB which travel ahead of a reader are little beside the window.
const LARGE = 32 << 10;
const WINDOW = ["--window-bytes", "4MiB"];

async function a_small_receiver_is_told_by_a_gap(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const published = [];
  for (const size of [100, 10_000, 100]) published.push(...(await stage.publish(publisher, 1, data(size))));
  const client = stage.client("old-gateway", "oldest", { max_receive_bytes: 4096 });
  let frames = stage.stream(client, hub.address);
  equal((await frames.next()).welcome.limits.max_frame_bytes, 4096);
  equal((await frames.next()).event.id, published[0].id);
  const { kind, cursor, gap } = await frames.next();
  equal([kind, gap.reason, gap.count], ["gap", "GAP_REASON_TOO_LARGE", "1"]);
  equal([gap.from, gap.to, cursor], [published[0].cursor, published[1].cursor, published[1].cursor]);
  frames.close();
  // Its cursor crosses the event, so that resuming does not meet it again.
  frames = stage.stream(client, hub.address);
  equal(await idsUntilCaughtUp(frames), [published[2].id]);
  const tiny = stage.stream(stage.client("tiny", "", { max_receive_bytes: 100 }), hub.address);
  await refused(() => tiny.next(), "INVALID_ARGUMENT", "REQUEST_INVALID");
}

async function a_filtered_reader_is_told_its_progress(stage) {
  const hub = await stage.startHub("--window-events", "64");
  const publisher = stage.publisher(hub);
  const client = stage.client("old-gateway", "", { recipients: ["user:7", "topic:news.*"] });
  let frames = stage.stream(client, hub.address);
  await idsUntilCaughtUp(frames);
  const start = client.cursor;
  for (let batch = 0; batch < 10; batch++) await stage.publish(publisher, 4);
  // Nothing of it is for this reader, and it is told so before the window has moved past its cursor.
  equal((await frames.next()).kind, "progress");
  holds(sequence(client.cursor) > sequence(start), "the cursor did not move");
  const wanted = [];
  for (const to of [["user:1", "user:7"], ["topic:news.uk"], ["user:77"], ["all"]]) {
    wanted.push(...ids(await stage.publish(publisher, 1, { to })));
  }
  equal(await nextIds(frames, 2), wanted.slice(0, 2));
  for (let batch = 0; batch < 20; batch++) {
    await stage.publish(publisher, 4);
    while (sequence(client.cursor) < stage.published - 8) equal((await frames.next()).kind, "progress");
  }
  frames.close();
  frames = stage.stream(client, hub.address);
  equal((await frames.next()).welcome.outcome, "OUTCOME_RESUMED");
}

async function an_idle_reader_is_told_its_progress(stage) {
  const hub = await stage.startHub();
  const published = await stage.publish(stage.publisher(hub), 2);
  const frames = stage.stream(stage.client("old-gateway", "oldest"), hub.address, { ms: 7000 });
  await idsUntilCaughtUp(frames);
  const progress = await frames.next();
  equal([progress.kind, progress.cursor], ["progress", published[1].cursor]);
}

async function a_slow_reader_is_told_it_fell_behind(stage) {
  const hub = await stage.startHub(...WINDOW);
  const publisher = stage.publisher(hub);
  const frames = stage.stream(stage.client(), hub.address);
  await idsUntilCaughtUp(frames);
  const published = await publishLarge(stage, publisher, 10);
  const [kinds, received] = [[], []];
  for await (const { kind, event } of frames) {
    kinds.push(kind);
    if (kind === "event") received.push(event.id);
    if (received.at(-1) === published.at(-1).id) break;
  }
  equal(received, ids(published));
  holds(kinds.includes("fell_behind"), `only told ${[...new Set(kinds)]}`);
  holds(!kinds.includes("gap"), "told of a gap inside the window");
  equal((await frames.next()).kind, "caught_up");
  return `told after ${kinds.indexOf("fell_behind")} of ${published.length} events`;
}

async function publishLarge(stage, publisher, batches) {
  const published = [];
  for (let batch = 0; batch < batches; batch++) published.push(...(await stage.publish(publisher, 8, data(LARGE))));
  return published;
}

async function a_lapped_reader_is_told(stage) {
  const hub = await stage.startHub(...WINDOW);
  const publisher = stage.publisher(hub);
  const frames = stage.stream(stage.client(), hub.address);
  await idsUntilCaughtUp(frames);
  const published = await publishLarge(stage, publisher, 40);
  const received = [];
  let [gap, before] = [undefined, 0];
  for await (const frame of frames) {
    if (frame.kind === "caught_up") break;
    if (frame.kind === "event") received.push(frame.event.id);
    if (frame.kind !== "gap") continue;
    holds(!gap, "told of two gaps, though nobody published in between");
    [gap, before] = [frame.gap, received.length];
    equal([gap.reason, frame.cursor], ["GAP_REASON_LAPPED", gap.to]);
  }
  holds(gap, "the reader was never lapped");
  const goesOn = before + Number(gap.count);
  equal(received, ids([...published.slice(0, before), ...published.slice(goesOn)]));
  equal([gap.from, gap.to], [published[before - 1].cursor, published[goesOn - 1].cursor]);
  return `${before} before the gap, ${gap.count} missed`;
}

async function a_large_catch_up_keeps_the_connection(stage) {
  return readAfterAPause(stage, { size: 200, batch: 1000 });
}

async function tiny_events_before_a_paused_reader(stage) {
  return readAfterAPause(stage, { size: 1, batch: 100 });
}

/** The reader pauses while 20,000 events are published, then reads on; then another one reads them all at once. */
async function readAfterAPause(stage, { size, batch }) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const line = await stage.line(hub);
  const frames = stage.stream(stage.client(), line.address);
  await idsUntilCaughtUp(frames);
  const published = [];
  while (published.length < 20_000) published.push(...(await stage.publish(publisher, batch, data(size))));
  const ahead = line.down.of(DATA);
  equal(await nextIds(frames, published.length), ids(published));
  equal([frames.ended, line.down.of(GOAWAY)], [false, 0]);
  const replayed = stage.stream(stage.client("replay", "oldest"), hub.address);
  equal(await idsUntilCaughtUp(replayed), ids(published));
  return `${ahead} DATA frames ahead of the paused reader, ${line.down.of(DATA)} in all`;
}

export const SCENES = [
  a_small_receiver_is_told_by_a_gap,
  a_filtered_reader_is_told_its_progress,
  an_idle_reader_is_told_its_progress,
  a_slow_reader_is_told_it_fell_behind,
  a_lapped_reader_is_told,
  a_large_catch_up_keeps_the_connection,
  tiny_events_before_a_paused_reader,
];
