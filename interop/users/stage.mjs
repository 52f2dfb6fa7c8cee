// What one scene is played on: its own processes, lines, proxies and readers. Closed when the scene is over.

import path from "node:path";
import readline from "node:readline";

import { equal } from "./checks.mjs";
import { FRONTS } from "./fronts.mjs";
import { Heard } from "./heard.mjs";
import { Role, start } from "./processes.mjs";
import { Relay } from "./relay.mjs";

/** So large that a cut behind a turn's number is in the middle of its event. */
const PADDING = "x".repeat(2_000);

/** What the turns of user 42 look like. */
export const turnEvent = (turn) => ({
  specversion: "1.0",
  id: `turn-${turn}`,
  source: "interop",
  type: "turn.ready",
  to: "user:42",
  datacontenttype: "application/json",
  data: { turn, padding: PADDING },
});

/** One request of a publisher. */
export async function post({ urls }, headers, body) {
  const answer = await fetch(`${urls.hub}/v1/events`, { method: "POST", headers, body });
  return { status: answer.status, body: await answer.json() };
}

export class Stage {
  #open = [];
  published = 0;
  relays = new Map();

  /** `tools` says where everything is that is not of this project. */
  constructor(tools, log) {
    Object.assign(this, tools, { log });
  }

  /** Closes this when the scene is over. */
  closing(close) {
    this.#open.push(close);
  }

  async start(role, flags = [], addresses = {}) {
    const running = await Role.start(this.binary, role, flags, this.log, addresses);
    this.closing(() => running.kill());
    return running;
  }

  async relay(address, cuts) {
    const relay = await Relay.open(address, cuts);
    this.closing(() => relay.close());
    return relay;
  }

  /** The three ways of people to a gateway, by name: no proxy, nginx, haproxy. Behind each of these turns a line is cut. */
  async ways(gateway, { turns = [], idleSeconds } = {}) {
    const cuts = turns.map((turn) => `"turn":${turn},`);
    this.relays.set("direct", await this.relay(gateway, cuts));
    for (const [name, open] of Object.entries(FRONTS)) {
      // The second cut is between proxy and gateway, the others between user and proxy.
      const inside = await this.relay(gateway, cuts.slice(1, 2));
      const front = await open(this, turns.length > 1 ? inside.address : gateway, idleSeconds);
      this.relays.set(`${name}, inside`, inside).set(name, await this.relay(front, [...cuts.slice(0, 1), ...cuts.slice(2)]));
    }
    return new Map(["direct", ...Object.keys(FRONTS)].map((name) => [name, `http://${this.relays.get(name).address}`]));
  }

  /** Those of the ways' lines that were not cut as often as they should have been. */
  uncut() {
    return [...this.relays].filter(([, relay]) => relay.cutsLeft.length > 0).map(([name]) => name);
  }

  /** A reader of Node on each way: `read(edge, tell)` of the module. */
  hearInNode({ read }, ways) {
    const heard = new Heard(ways.keys());
    for (const [way, edge] of ways) {
      this.closing(read(edge, (type, data) => heard.take(way, type, data)));
    }
    return heard;
  }

  /** A reader in another language, which is told the ways and tells what it hears. */
  hearIn(program, words, ways) {
    const heard = new Heard(ways.keys());
    const arguments_ = [...words, ...[...ways].map(([way, edge]) => `${way}=${edge}`)];
    const reader = start(program, arguments_, { log: this.log, env: { PYTHONDONTWRITEBYTECODE: "1" } });
    this.closing(async () => {
      reader.kill("SIGKILL");
      await reader.exited;
    });
    readline.createInterface({ input: reader.stdout }).on("line", (line) => {
      const { way, type, data } = JSON.parse(line);
      heard.take(way, type, data);
    });
    return heard;
  }

  /** A reader in Python: a file of readers/. */
  hearInPython(file, ways) {
    return this.hearIn(this.python, [path.join(import.meta.dirname, "readers", file)], ways);
  }

  /** A reader on a page of Chromium for each way: `read(edge, tell, options)` of pages/NAME.mjs. */
  async hearOnPages(name, ways, options = {}) {
    const heard = new Heard(ways.keys());
    for (const [way, edge] of ways) {
      const page = await this.page();
      page.on("pageerror", (error) => heard.complain(way, error.message));
      await page.exposeFunction("tell", (type, data) => heard.take(way, type, data));
      const opened = async ([name, edge, options]) => (await import(`/pages/${name}.mjs`)).read(edge, window.tell, options);
      await page.evaluate(opened, [name, edge, options]);
    }
    return heard;
  }

  /** A page on an origin of its own: an empty one, or this one. */
  async page(address = "/", html) {
    const page = await (await this.pages()).open(address, html);
    this.closing(() => page.context().close());
    return page;
  }

  /** Publishes the next so many turns to user 42, one request each. */
  async publishTurns(role, count) {
    for (const turn of Array.from({ length: count }, () => this.published++)) {
      await this.publish(role, turnEvent(turn));
    }
  }

  async publish(role, event) {
    const headers = { "content-type": "application/cloudevents+json" };
    const { status, body } = await post(role, headers, JSON.stringify(event));
    equal(status, 200, JSON.stringify(body));
    return body.results[0];
  }

  async close() {
    // The youngest first, as a scene would leave them.
    for (const close of this.#open.reverse()) await close();
  }
}
