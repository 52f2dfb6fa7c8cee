// Running programs: `galaxy-push` in its roles, the proxies, and readers in other languages. Nothing here checks anything.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import net from "node:net";
import readline from "node:readline";

const READY_MS = 20_000;
const ANY_PORT = "127.0.0.1:0";
const LISTENERS = { serve: ["hub", "edge", "admin"], hub: ["hub", "admin"], gateway: ["edge", "admin"] };

/** A program with its complaints in the log. What the caller's shell has set for its own hub is not meant for it. */
export function start(program, words, { log, env = {}, cwd } = {}) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("GALAXY_PUSH_"));
  const stderr = openSync(log, "a");
  const child = spawn(program, words, { cwd, env: { ...Object.fromEntries(own), ...env }, stdio: ["ignore", "pipe", stderr] });
  closeSync(stderr);
  child.exited = new Promise((resolve) => child.once("close", resolve));
  return child;
}

/** A `serve`, `hub` or `gateway` that listens. */
export class Role {
  /** On free ports, or on those of `addresses`, such as `{ edge: "127.0.0.1:9" }`. */
  static async start(binary, role, flags, log, addresses = {}) {
    const listeners = LISTENERS[role].flatMap((name) => [`--${name}-addr`, addresses[name] ?? ANY_PORT]);
    const running = new Role();
    running.process = start(binary, [role, ...listeners, "--ready-json", ...flags], { log });
    // One that never gets ready is ended, so that reading its first line ends too.
    const watchdog = setTimeout(() => running.process.kill("SIGKILL"), READY_MS);
    let firstLine;
    for await (firstLine of readline.createInterface({ input: running.process.stdout })) break;
    clearTimeout(watchdog);
    if (!firstLine) throw new Error(`${role} did not get ready; see ${log}`);
    running.process.stdout.resume();
    running.urls = JSON.parse(firstLine);
    return running;
  }

  /** The address of a listener, without the scheme. */
  address(name) {
    return new URL(this.urls[name]).host;
  }

  /** What it says of itself under this name. */
  async metric(name) {
    const answer = await fetch(new URL("/metrics", this.urls.admin));
    const line = (await answer.text()).split("\n").find((each) => each.startsWith(`${name} `));
    return Number(line?.split(" ")[1]);
  }

  /** Ends it as a crash would. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

/** Below those that systems hand out by themselves, so that nobody takes one meanwhile; each process begins elsewhere. */
const [FIRST_PORT, LAST_PORT] = [20_000, 32_000];
let lastPort = FIRST_PORT + (process.pid % (LAST_PORT - FIRST_PORT));

/** A free port, for programs that cannot say which one they took, or that come back to it. Nobody is given it twice. */
export async function freePort() {
  for (;;) {
    const port = lastPort < LAST_PORT ? lastPort + 1 : FIRST_PORT;
    lastPort = port;
    if (!(await isListening(port))) return port;
  }
}

/** Whether somebody listens there. */
export async function isListening(port) {
  const probe = net.connect(port, "127.0.0.1");
  try {
    await once(probe, "connect");
    return true;
  } catch {
    return false;
  } finally {
    probe.destroy();
  }
}
