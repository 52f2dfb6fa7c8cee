// One stream for each gateway id. SCENES.md says what each scene must show.

import { equal, holds, isStatus, nextEvent, refused, rest } from "../checks.mjs";

const TAKEOVERS = 8;

async function a_second_subscriber_fences_the_first(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const older = stage.stream(stage.client(), hub.address);
  // The first is accepted before the second asks.
  const { generation } = (await older.next()).welcome;
  const newer = stage.stream(stage.client(), hub.address);
  holds(Number((await newer.next()).welcome.generation) > Number(generation), "the generation did not rise");
  const [published] = await stage.publish(publisher, 1);
  await endsReplaced(older);
  equal((await nextEvent(newer)).event.id, published.id);
}

/** The stream must end ABORTED and REPLACED, without another event. */
async function endsReplaced(frames) {
  const { all, error } = await rest(frames);
  isStatus(error, "ABORTED", "REPLACED");
  holds(!all.some(({ kind }) => kind === "event"), "the fenced stream got an event");
}

async function replacement_works_both_ways(stage) {
  const hub = await stage.startHub();
  const publisher = stage.publisher(hub);
  const [a, b] = [0, 1].map(() => ({ client: stage.client("old-gateway", "oldest"), received: [] }));
  const others = stage.stream(stage.client("somebody-else"), hub.address);
  equal((await others.next()).kind, "welcome");
  const published = [];
  let current;
  for (const { client, received } of [a, b, a, b]) {
    const frames = stage.stream(client, hub.address);
    equal((await frames.next()).kind, "welcome");
    if (current) await endsReplaced(current);
    published.push((await stage.publish(publisher, 1))[0].id);
    // It goes on where it was: what the other one read meanwhile comes first.
    while (received.length < published.length) received.push((await nextEvent(frames)).event.id);
    equal([received, (await nextEvent(others)).event.id], [published, published.at(-1)]);
    current = frames;
  }
}

async function the_last_old_client_always_wins(stage) {
  const hub = await stage.startHub();
  const streams = [];
  for (let takeover = 0; takeover <= TAKEOVERS; takeover++) {
    streams.push(stage.stream(stage.client(), hub.address));
    equal((await streams.at(-1).next()).kind, "welcome");
  }
  for (const older of streams.slice(0, -1)) await endsReplaced(older);
  const [published] = await stage.publish(stage.publisher(hub), 1);
  equal((await nextEvent(streams.at(-1))).event.id, published.id);
  await hub.waitForStreams(1);
}

async function a_bad_gateway_id_is_refused(stage) {
  const hub = await stage.startHub();
  for (const gatewayClientId of ["", "x".repeat(256), "two words"]) {
    const frames = stage.stream(stage.client(gatewayClientId), hub.address);
    await refused(() => frames.next(), "INVALID_ARGUMENT", "REQUEST_INVALID");
  }
  equal(await hub.streams(), 0);
}

export const SCENES = [
  a_second_subscriber_fences_the_first,
  replacement_works_both_ways,
  the_last_old_client_always_wins,
  a_bad_gateway_id_is_refused,
];
