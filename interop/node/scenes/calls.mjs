// gRPC itself: deadlines, cancelling, connections, metadata, pings. SCENES.md says what each scene must show.

import { CALL_MS, equal, failureOf, holds, ids, idsUntilCaughtUp, isStatus, nextEvent, nextIds, refused, rest, waitUntil } from "../checks.mjs";
import { Frames, PINGING, over } from "../gateway.mjs";
import { Publisher, Push, grpc } from "../grpc.mjs";
import { GOAWAY, PING } from "../line.mjs";
import { ask } from "../stage.mjs";

// Two fields that no message of the contract has: 1000, a number, and 1001, some bytes.
const OF_A_LATER_CONTRACT = Buffer.from("c03e01ca3e03616263", "hex");
const bytes = (message) => message;

async function a_deadline_ends_the_call(stage) {
  const hub = await stage.startHub();
  const frames = stage.stream(stage.client(), hub.address, { ms: 300 });
  isStatus((await rest(frames)).error, "DEADLINE_EXCEEDED");
  // The connection is still open: it is the stream that the hub frees.
  await hub.waitForStreams(0);
}

async function a_cancelled_call_frees_the_hub(stage) {
  const hub = await stage.startHub();
  const channel = stage.channel((await stage.line(hub)).address);
  const frames = stage.streamOn(stage.client(), channel);
  equal((await frames.next()).kind, "welcome");
  equal(await hub.streams(), 1);
  frames.call.cancel();
  isStatus((await rest(frames)).error, "CANCELLED");
  await hub.waitForStreams(0);
  // A line takes one connection only, so this is the same one.
  await stage.head(over(Publisher, channel));
}

async function one_connection_carries_several_streams(stage) {
  const hub = await stage.startHub();
  const channel = stage.channel((await stage.line(hub)).address);
  const readers = ["a", "b", "c"].map((name) => stage.streamOn(stage.client(name), channel));
  for (const frames of readers) equal((await frames.next()).kind, "welcome");
  const published = await stage.publish(over(Publisher, channel), 50);
  for (const frames of readers) equal(await nextIds(frames, 50), ids(published));
}

async function unknown_methods_are_unimplemented(stage) {
  const hub = await stage.startHub();
  const channel = stage.channel((await stage.line(hub)).address);
  const client = over(grpc.Client, channel);
  const nothing = Buffer.alloc(0);
  const within = () => ({ deadline: Date.now() + CALL_MS });
  for (const path of ["/push.v1.Push/Nothing", "/push.v1.Publisher/Nothing", "/push.v1.Nothing/Publish", "/nothing.v9.Nothing/Do"]) {
    const answered = (resolve, reject) => (error, answer) => (error ? reject(error) : resolve(answer));
    const unary = () =>
      new Promise((resolve, reject) => client.makeUnaryRequest(path, bytes, bytes, nothing, within(), answered(resolve, reject)));
    await refused(unary, "UNIMPLEMENTED");
    const frames = new Frames(client.makeServerStreamRequest(path, bytes, bytes, nothing, within()));
    await refused(() => frames.next(), "UNIMPLEMENTED");
  }
  await stage.head(over(Publisher, channel));
}

async function unknown_fields_are_harmless(stage) {
  const hub = await stage.startHub();
  const channel = stage.channel(hub.address);
  const { Publish } = Publisher.service;
  // The same event with more fields: behind its own in the request, which then ends with the event.
  const plain = Publish.requestSerialize({ events: [stage.event("later")] });
  const event = Buffer.concat([plain.subarray(2), OF_A_LATER_CONTRACT]);
  holds(plain[0] === 0x0a && plain[1] === plain.length - 2 && event.length < 128, "the event is not alone in the request");
  const request = Buffer.concat([Buffer.from([0x0a, event.length]), event, OF_A_LATER_CONTRACT]);
  const raw = { Publish: (_, options, answered) => publishRaw(channel, request, options, answered) };
  const [result] = (await ask(raw, "Publish")).results;
  equal([result.id, result.code], ["later", 0]);

  const { SubscribePush } = Push.service;
  const asked = { gateway_client_id: "later", cursor: "oldest", features: ["from-the-future"] };
  const subscribe = Buffer.concat([SubscribePush.requestSerialize(asked), OF_A_LATER_CONTRACT]);
  const call = over(Push, channel).makeServerStreamRequest(SubscribePush.path, bytes, SubscribePush.responseDeserialize, subscribe);
  const frames = stage.closing(new Frames(call));
  equal((await frames.next()).kind, "welcome");
  equal(await idsUntilCaughtUp(frames), ["later"]);
}

function publishRaw(channel, request, options, answered) {
  const { Publish } = Publisher.service;
  over(Publisher, channel).makeUnaryRequest(Publish.path, bytes, Publish.responseDeserialize, request, options, answered);
}

async function a_compressed_request_is_taken(stage) {
  const hub = await stage.startHub();
  const squeezed = stage.event("squeezed", { data: Buffer.from(JSON.stringify("x".repeat(2000))) });
  const recipients = Array(200).fill("user:42");
  const [deflate, gzip] = [1, 2].map((algorithm) => stage.channel(hub.address, { "grpc.default_compression_algorithm": algorithm }));
  await refused(() => stage.send(over(Publisher, deflate), [squeezed]), "UNIMPLEMENTED");
  await refused(() => stage.streamOn(stage.client("old-gateway", "oldest", { recipients }), deflate).next(), "UNIMPLEMENTED");
  await stage.send(over(Publisher, gzip), [squeezed]);
  const frames = stage.streamOn(stage.client("old-gateway", "oldest", { recipients }), gzip);
  equal((await frames.next()).kind, "welcome");
  equal(await idsUntilCaughtUp(frames), ["squeezed"]);
}

async function huge_metadata_is_refused(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const shared = stage.channel(hub.address);
  const refusals = [];
  for (const [kib, neighboursChannel] of [[20, shared], [64, stage.channel(hub.address)]]) {
    const neighbour = stage.streamOn(stage.client("neighbour"), neighboursChannel, { metadata: large(4 << 10) });
    equal((await neighbour.next()).kind, "welcome");
    const huge = stage.streamOn(stage.client("huge"), shared, { metadata: large(kib << 10), ms: 5000 });
    const error = await failureOf(() => huge.next());
    holds(error.code !== grpc.status.DEADLINE_EXCEEDED, "nobody refused it");
    refusals.push(`${kib} KiB: ${grpc.status[error.code]}`);
    const [published] = await stage.publish(publisher, 1);
    equal((await nextEvent(neighbour)).event.id, published.id);
  }
  return refusals.join(", ");
}

function large(size) {
  const metadata = new grpc.Metadata();
  metadata.set("x-large", "a".repeat(size));
  return metadata;
}

async function keepalive_pings_are_tolerated(stage) {
  const hub = await stage.startHub();
  const line = await stage.line(hub);
  const frames = stage.stream(stage.client(), line.address, { options: PINGING });
  await idsUntilCaughtUp(frames);
  const before = line.up.of(PING);
  await waitUntil(() => line.up.of(PING) >= before + 3, "the peer has sent three more pings");
  const [published] = await stage.publish(stage.publisher(hub), 1);
  equal((await nextEvent(frames)).event.id, published.id);
  equal(line.down.of(GOAWAY), 0);
  return `${line.up.of(PING)} pings`;
}

export const SCENES = [
  a_deadline_ends_the_call,
  a_cancelled_call_frees_the_hub,
  one_connection_carries_several_streams,
  unknown_methods_are_unimplemented,
  unknown_fields_are_harmless,
  a_compressed_request_is_taken,
  huge_metadata_is_refused,
  keepalive_pings_are_tolerated,
];
