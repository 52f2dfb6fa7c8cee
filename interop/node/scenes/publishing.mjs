// What a publisher may send and what it is answered. SCENES.md says what each scene must show.

import { equal, failureOf, holds, ids, idsUntilCaughtUp, nextEvent, nextIds, refused, sequence } from "../checks.mjs";
import { over } from "../gateway.mjs";
import { Publisher, grpc } from "../grpc.mjs";
import { data } from "../stage.mjs";

// The largest data of an event, unless the hub is told otherwise.
const DATA_MAX = 64 << 10;

async function data_of_every_size_arrives(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const sizes = [0, 1, DATA_MAX];
  const live = stage.stream(stage.client(), hub.address);
  equal((await live.next()).kind, "welcome");
  for (const size of sizes) await stage.publish(publisher, 1, data(size));
  const replayed = stage.stream(stage.client("another", "oldest"), hub.address);
  for (const frames of [live, replayed]) {
    for (const size of sizes) holds((await nextEvent(frames)).event.data.equals(Buffer.alloc(size, "x")), `${size} bytes came out otherwise`);
  }
}

async function too_much_data_is_refused(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const [{ cursor }] = await stage.publish(publisher, 1);
  const events = [stage.event("fits"), stage.event("too-large", data(DATA_MAX + 1))];
  await refused(() => stage.send(publisher, events), "INVALID_ARGUMENT", "EVENT_TOO_LARGE");
  equal(await stage.head(publisher), cursor);
}

async function a_bad_event_is_refused_before_append(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const [{ cursor }] = await stage.publish(publisher, 1);
  const tooMany = Array.from({ length: 257 }, (_, number) => `user:${number}`);
  for (const [reason, fields] of [
    ["RECIPIENT_INVALID", { to: [] }],
    ["RECIPIENT_INVALID", { to: ["planet:earth"] }],
    ["RECIPIENT_INVALID", { to: ["user:a b"] }],
    ["RECIPIENT_INVALID", { to: tooMany }],
    ["REQUEST_INVALID", { id: "" }],
    ["REQUEST_INVALID", { source: "" }],
    ["REQUEST_INVALID", { type: "" }],
    ["REQUEST_INVALID", { type: "push.gap" }],
    ["REQUEST_INVALID", { data: Buffer.from("{not json") }],
  ]) {
    const events = [stage.event("good"), stage.event("bad", fields)];
    await refused(() => stage.send(publisher, events), "INVALID_ARGUMENT", reason);
  }
  equal(await stage.head(publisher), cursor);
}

async function a_request_beyond_4_mib_is_refused(stage) {
  const hub = await stage.startHub();
  const publisher = over(Publisher, stage.channel((await stage.line(hub)).address));
  const [{ cursor }] = await stage.publish(publisher, 1);
  const events = Array.from({ length: 80 }, (_, number) => stage.event(`large-${number}`, data(DATA_MAX)));
  const error = await failureOf(() => stage.send(publisher, events));
  equal(await stage.head(publisher), cursor);
  await stage.publish(publisher, 60, data(DATA_MAX));
  return `refused as ${grpc.status[error.code]}`;
}

async function a_batch_keeps_its_order(stage) {
  const hub = await stage.startHub();
  const published = await stage.publish(stage.publisher(hub), 1000);
  const first = sequence(published[0].cursor);
  equal(published.map(({ cursor }) => sequence(cursor)), published.map((_, number) => first + number));
  const frames = stage.stream(stage.client("old-gateway", "oldest"), hub.address);
  equal(await idsUntilCaughtUp(frames), ids(published));
}

async function a_batch_of_1001_is_refused(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const head = await stage.head(publisher);
  const events = Array.from({ length: 1001 }, (_, number) => stage.event(`many-${number}`));
  await refused(() => stage.send(publisher, events), "INVALID_ARGUMENT", "REQUEST_INVALID");
  equal(await stage.head(publisher), head);
}

async function publishing_again_is_idempotent(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const publish = async (source) => (await stage.send(publisher, [stage.event("once", { source })]))[0];
  const [first, other, again] = [await publish("here"), await publish("elsewhere"), await publish("here")];
  equal([first.duplicate, other.duplicate, again.duplicate], [false, false, true]);
  equal(again.cursor, first.cursor);
  holds(other.cursor !== first.cursor, "another source is another event");
  const frames = stage.stream(stage.client("old-gateway", "oldest"), hub.address);
  equal(await idsUntilCaughtUp(frames), ["once", "once"]);
}

async function an_ephemeral_event_has_no_cursor(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const client = stage.client();
  const frames = stage.stream(client, hub.address);
  await idsUntilCaughtUp(frames);
  const [kept] = await stage.publish(publisher, 1);
  const [result] = await stage.send(publisher, [stage.event("now", { ephemeral: true })]);
  equal([result.cursor, result.code], ["", 0]);
  equal(await nextIds(frames, 2), [kept.id, "now"]);
  equal(client.cursor, kept.cursor);
  const replayed = stage.stream(stage.client("another", "oldest"), hub.address);
  equal(await idsUntilCaughtUp(replayed), [kept.id]);
}

async function other_namespaces_are_not_found(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const elsewhere = { namespace: "elsewhere" };
  await refused(() => stage.send(publisher, [stage.event("a")], elsewhere), "NOT_FOUND");
  await refused(() => stage.head(publisher, elsewhere), "NOT_FOUND");
  await refused(() => stage.stream(stage.client("a", "", elsewhere), hub.address).next(), "NOT_FOUND");
  const frames = stage.stream(stage.client("a", "", { namespace: "default" }), hub.address);
  equal((await frames.next()).kind, "welcome");
}

export const SCENES = [
  data_of_every_size_arrives,
  too_much_data_is_refused,
  a_bad_event_is_refused_before_append,
  a_request_beyond_4_mib_is_refused,
  a_batch_keeps_its_order,
  a_batch_of_1001_is_refused,
  publishing_again_is_idempotent,
  an_ephemeral_event_has_no_cursor,
  other_namespaces_are_not_found,
];
