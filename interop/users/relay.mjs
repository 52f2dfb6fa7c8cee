// A relay between readers and one server, whose connections are cut in the middle of an event. Nothing here checks anything.

import { once } from "node:events";
import net from "node:net";

/** Takes any number of connections, as the lines of people who come back do. */
export class Relay {
  #cuts;
  #ends = new Set();
  #isReset = false;
  taken = 0;

  /** Each of these texts, once the server has said it, is the last thing that its connection carries: in turn FIN and RST. */
  static async open(address, cuts = []) {
    const relay = new Relay();
    relay.#cuts = [...cuts];
    relay.listener = net.createServer((client) => relay.#join(client, address));
    relay.listener.listen(0, "127.0.0.1");
    await once(relay.listener, "listening");
    relay.address = `127.0.0.1:${relay.listener.address().port}`;
    return relay;
  }

  /** The texts that have cut nothing yet. */
  get cutsLeft() {
    return this.#cuts;
  }

  #join(client, address) {
    this.taken += 1;
    const [host, port] = address.split(":");
    const server = net.connect(Number(port), host);
    for (const [end, other] of [[client, server], [server, client]]) {
      this.#ends.add(end);
      end.setNoDelay(true);
      end.on("error", () => {}); // the other end is told by the close
      end.on("close", () => {
        this.#ends.delete(end);
        other.destroy();
      });
      end.on("end", () => other.end());
    }
    let said = ""; // the end of what has passed: a text may come in two pieces
    client.on("data", (data) => pass(client, server, data));
    server.on("data", (data) => {
      const [cut] = this.#cuts;
      const seen = said + data.toString("latin1");
      const at = cut ? seen.indexOf(cut) : -1;
      if (at < 0) {
        said = cut ? seen.slice(1 - cut.length) : "";
        pass(server, client, data);
      } else {
        this.#cuts.shift();
        this.#cut(client, server, data.subarray(0, at + cut.length - said.length));
      }
    });
  }

  #cut(client, server, last) {
    this.#isReset = !this.#isReset;
    server.removeAllListeners("data");
    server.removeAllListeners("close");
    server.destroy();
    if (this.#isReset) client.write(last, () => client.resetAndDestroy());
    else client.end(last, () => client.destroySoon());
  }

  close() {
    this.listener.close();
    for (const end of this.#ends) end.destroy();
  }
}

/** A slow reader is felt on the other side. */
function pass(source, sink, data) {
  if (sink.destroyed || sink.write(data)) return;
  source.pause();
  sink.once("drain", () => source.resume());
}
