// A relay between one client and one server that can be cut, reset or frozen, and that counts HTTP/2 frames. Nothing here checks anything.

import { once } from "node:events";
import net from "node:net";

export const DATA = 0;
export const PING = 6;
export const GOAWAY = 7;
const ACK = 1;
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".length;

/** Takes one connection; dialling again must not resurrect a line that was cut. */
export class Line {
  /** Cuts after so many bytes from the server, in the middle of whatever they are. */
  static async open(address, { cutAfter = Infinity, reset = false } = {}) {
    const line = new Line();
    Object.assign(line, { bytesLeft: cutAfter, reset, frozen: false, up: new Frames(PREFACE), down: new Frames(0), ends: [] });
    line.listener = net.createServer((client) => line.#join(client, address));
    line.listener.listen(0, "127.0.0.1");
    await once(line.listener, "listening");
    line.address = `127.0.0.1:${line.listener.address().port}`;
    return line;
  }

  #join(client, address) {
    this.listener.close();
    const [host, port] = address.split(":");
    const server = net.connect(Number(port), host);
    this.ends = [client, server];
    for (const end of this.ends) {
      end.setNoDelay(true);
      end.on("error", () => {}); // the other end is told by the cut
      end.on("close", () => this.frozen || this.#cut());
    }
    client.on("data", (data) => this.#pass(client, server, data, this.up));
    server.on("data", (data) => this.#pass(server, client, data.subarray(0, this.bytesLeft), this.down));
  }

  #pass(source, sink, data, frames) {
    if (this.frozen || sink.destroyed) return;
    frames.count(data);
    if (frames === this.down) this.bytesLeft -= data.length;
    if (!sink.write(data)) {
      // A slow reader is felt on the other side.
      source.pause();
      sink.once("drain", () => source.resume());
    }
    if (this.bytesLeft <= 0) this.#cut();
  }

  /** From now on nothing passes, and nobody is told. */
  freeze() {
    this.frozen = true;
  }

  #cut() {
    for (const end of this.ends) {
      if (this.reset) end.resetAndDestroy();
      else end.end(() => end.destroy());
    }
  }

  close() {
    this.listener.close();
    for (const end of this.ends) end.destroy();
  }
}

/** Counts the HTTP/2 frames of one direction by their type; acknowledged pings apart. */
class Frames {
  counts = {};
  #head = Buffer.alloc(0);
  #skip;

  constructor(skip) {
    this.#skip = skip;
  }

  of(kind) {
    return this.counts[kind] ?? 0;
  }

  count(data) {
    while (data.length > 0) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, data.length);
        this.#skip -= passed;
        data = data.subarray(passed);
        continue;
      }
      const wanted = 9 - this.#head.length;
      this.#head = Buffer.concat([this.#head, data.subarray(0, wanted)]);
      data = data.subarray(wanted);
      if (this.#head.length < 9) return;
      const [kind, flags] = [this.#head[3], this.#head[4]];
      if (kind !== PING || !(flags & ACK)) this.counts[kind] = this.of(kind) + 1;
      this.#skip = this.#head.readUIntBE(0, 3);
      this.#head = Buffer.alloc(0);
    }
  }
}
