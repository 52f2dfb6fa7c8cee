// A gateway of the old kind: it only knows "send back the last non-empty cursor". Nothing here checks anything.

import { CALL_MS } from "./checks.mjs";
import { Push, grpc } from "./grpc.mjs";

// HTTP/2 pings every second, also while nothing is sent; one that is not answered within a second ends the connection.
export const PINGING = {
  "grpc.keepalive_time_ms": 1000,
  "grpc.keepalive_timeout_ms": 1000,
  "grpc.keepalive_permit_without_calls": 1,
};

/** A channel with a connection of its own, and neither a proxy nor retries behind the scene's back. */
export function openChannel(address, options = {}) {
  const own = { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0, "grpc.enable_http_proxy": 0, ...options };
  return new grpc.Channel(address, grpc.credentials.createInsecure(), own);
}

/** A service over this channel. */
export const over = (Service, channel) => new Service("unused", grpc.credentials.createInsecure(), { channelOverride: channel });

/** Remembers one cursor. Each stream of it has a connection of its own unless a channel is given. */
export class OldClient {
  constructor(gatewayClientId, cursor = "", fields = {}) {
    Object.assign(this, { gatewayClientId, cursor, fields });
  }

  /** Subscribes over a connection of its own. */
  stream(address, { options = {}, ...call } = {}) {
    const channel = openChannel(address, options);
    const frames = this.streamOn(channel, call);
    frames.channel = channel;
    return frames;
  }

  /** Subscribes over this channel. */
  streamOn(channel, { ms = CALL_MS, metadata = new grpc.Metadata() } = {}) {
    const request = { gateway_client_id: this.gatewayClientId, cursor: this.cursor, ...this.fields };
    const call = over(Push, channel).SubscribePush(request, metadata, { deadline: Date.now() + ms });
    return new Frames(call, (cursor) => (this.cursor = cursor));
  }
}

/** The frames of a call, one at a time: what is not asked for stays unread, as far as the peer's buffers allow. */
export class Frames {
  #wake = () => {};
  #error;
  ended = false;

  constructor(call, remember = () => {}) {
    this.call = call;
    this.remember = remember;
    call.on("readable", () => this.#wake());
    call.on("error", (error) => {
      this.#error = error;
      this.#wake();
    });
    call.on("status", () => {
      this.ended = true;
      this.#wake();
    });
  }

  [Symbol.asyncIterator]() {
    return { next: () => this.#next() };
  }

  /** The next frame; throws the status with which the stream failed. */
  async next() {
    const { value, done } = await this.#next();
    if (done) throw new Error("the stream ended with OK");
    return value;
  }

  async #next() {
    for (;;) {
      const woken = new Promise((resolve) => (this.#wake = resolve));
      const frame = this.call.read();
      if (frame !== null) {
        if (frame.cursor) this.remember(frame.cursor);
        return { value: frame, done: false };
      }
      if (this.#error) throw this.#error;
      if (this.ended) return { value: undefined, done: true };
      await woken;
    }
  }

  /** Cuts the stream, and the connection if it is its own. */
  close() {
    this.call.cancel();
    this.channel?.close();
  }
}
