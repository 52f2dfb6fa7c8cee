// A running `galaxy-push hub` on ports of the loopback. Every scene has its own. Nothing here checks anything.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, closeSync } from "node:fs";
import readline from "node:readline";

import { waitUntil } from "./checks.mjs";

const READY_MS = 20_000;
const ANY_PORT = "127.0.0.1:0";

export class Hub {
  static async start(binary, flags, log, address = ANY_PORT) {
    const command = ["hub", "--hub-addr", address, "--admin-addr", ANY_PORT, "--ready-json", ...flags];
    // What the caller's shell has set for its own hub is not meant for this one.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GALAXY_PUSH_")));
    const stderr = openSync(log, "a");
    const hub = new Hub();
    hub.process = spawn(binary, command, { env, stdio: ["ignore", "pipe", stderr] });
    closeSync(stderr);
    hub.exited = once(hub.process, "exit");
    // A hub that never gets ready is ended, so that reading its first line ends too.
    const watchdog = setTimeout(() => hub.process.kill("SIGKILL"), READY_MS);
    let firstLine;
    for await (firstLine of readline.createInterface({ input: hub.process.stdout })) break;
    clearTimeout(watchdog);
    if (!firstLine) throw new Error(`the hub did not get ready; see ${log}`);
    hub.process.stdout.resume();
    hub.urls = JSON.parse(firstLine);
    hub.address = new URL(hub.urls.hub).host;
    return hub;
  }

  /** How many gateway streams are open, by the hub's own count. */
  async streams() {
    const answer = await fetch(new URL("/metrics", this.urls.admin));
    const line = (await answer.text()).split("\n").find((each) => each.startsWith("push_streams "));
    return Number(line.split(" ")[1]);
  }

  waitForStreams(count) {
    return waitUntil(async () => (await this.streams()) === count, `the hub has ${count} streams`);
  }

  /** Asks it to end, as an operator would; answers with the exit code. */
  async terminate() {
    this.process.kill("SIGTERM");
    return (await this.exited)[0];
  }

  /** Ends it as a crash would. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.exited;
  }
}
