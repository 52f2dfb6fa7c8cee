// What one scene is played on: its own hubs, lines, channels and publisher. Closed when the scene is over.

import { CALL_MS, equal } from "./checks.mjs";
import { OldClient, openChannel, over } from "./gateway.mjs";
import { Publisher } from "./grpc.mjs";
import { Line } from "./line.mjs";
import { Hub } from "./processes.mjs";

export class Stage {
  #open = [];
  published = 0;

  constructor(binary, log) {
    Object.assign(this, { binary, log });
  }

  async startHub(...flags) {
    return this.startHubAt(undefined, ...flags);
  }

  async startHubAt(address, ...flags) {
    const hub = await Hub.start(this.binary, flags, this.log, address);
    this.#open.push(() => hub.kill());
    return hub;
  }

  async line(hub, options) {
    const line = await Line.open(hub.address, options);
    this.#open.push(() => line.close());
    return line;
  }

  channel(address, options) {
    const channel = openChannel(address, options);
    this.#open.push(() => channel.close());
    return channel;
  }

  publisher(hub) {
    return over(Publisher, this.channel(hub.address));
  }

  client(gatewayClientId = "old-gateway", cursor = "", fields = {}) {
    return new OldClient(gatewayClientId, cursor, fields);
  }

  /** Subscribes, and cuts the stream when the scene is over at the latest. */
  stream(client, address, options) {
    return this.closing(client.stream(address, options));
  }

  streamOn(client, channel, options) {
    return this.closing(client.streamOn(channel, options));
  }

  /** Closes this when the scene is over. */
  closing(resource) {
    this.#open.push(() => resource.close());
    return resource;
  }

  event(id, fields = {}) {
    const usual = { to: ["user:42"], type: "turn.ready", source: "interop", data: Buffer.from("{}") };
    return { id, ...usual, data_content_type: "application/json", ...fields };
  }

  /** Publishes the next so many events as one batch and returns their ids and cursors, in order. */
  async publish(publisher, count, fields = {}) {
    const ids = Array.from({ length: count }, (_, number) => `e${this.published + number}`);
    this.published += count;
    const results = await this.send(publisher, ids.map((id) => this.event(id, fields)));
    equal(results.map(({ id, code }) => [id, code]), ids.map((id) => [id, 0]));
    return results.map(({ id, cursor }) => ({ id, cursor }));
  }

  /** Publishes these events and returns the results. */
  async send(publisher, events, fields = {}) {
    return (await ask(publisher, "Publish", { events, ...fields })).results;
  }

  async head(publisher, fields = {}) {
    return (await ask(publisher, "Head", fields)).cursor;
  }

  async close() {
    // The youngest first, as a scene would leave them.
    for (const close of this.#open.reverse()) await close();
  }
}

/** One answer to one request. */
export function ask(service, method, request, options = {}) {
  return new Promise((resolve, reject) => {
    const answered = (error, answer) => (error ? reject(error) : resolve(answer));
    service[method](request, { deadline: Date.now() + CALL_MS, ...options }, answered);
  });
}

/** The fields of an event with so many bytes of data. */
export const data = (size) => ({ data: Buffer.alloc(size, "x"), data_content_type: "application/octet-stream" });
