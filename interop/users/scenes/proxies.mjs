// What proxies do of themselves, and what becomes of people while no gateway is behind them.

import { equal, waitUntil } from "../checks.mjs";
import { nginxOfOneLine } from "../fronts.mjs";
import { freePort } from "../processes.mjs";
import * as eventsource from "../readers/eventsource.mjs";
import * as ws from "../readers/ws.mjs";
import { isWhole } from "./readers.mjs";

/** The turns of one phase. */
const TURNS = 5;

async function nginx_with_one_line(stage) {
  const oneWay = async (gateway) => {
    const relay = await stage.relay(await nginxOfOneLine(stage, gateway), ['"turn":3,', '"turn":12,']);
    stage.relays.set("nginx", relay);
    return new Map([["nginx", `http://${relay.address}`]]);
  };
  await isWhole(stage, (ways) => stage.hearInNode(eventsource, ways), oneWay);
}

async function a_gateway_is_killed(stage) {
  const hub = await stage.start("hub");
  const flags = ["--hub", hub.urls.hub, "--dev", "--trusted-proxies", "127.0.0.1"];
  const edge = `127.0.0.1:${await freePort()}`;
  const gateway = await stage.start("gateway", flags, { edge });
  const ways = await stage.ways(edge);
  const readers = [
    await stage.hearOnPages("eventsource", ways),
    stage.hearInNode(eventsource, ways),
    stage.hearInNode(ws, ways),
  ];
  await stage.publishTurns(hub, TURNS);
  for (const heard of readers) await heard.wait(TURNS - 1);

  await gateway.kill();
  const outer = [...ways.keys()].map((name) => stage.relays.get(name));
  const before = outer.map(({ taken }) => taken);
  await stage.publishTurns(hub, TURNS);
  // Everybody has come to the closed door, and some twice.
  const knocked = () => outer.every(({ taken }, way) => taken >= before[way] + readers.length * 2);
  await waitUntil(knocked, "the readers of every way came back while no gateway was there");

  await stage.start("gateway", flags, { edge });
  await stage.publishTurns(hub, TURNS);
  for (const heard of readers) {
    await heard.wait(3 * TURNS - 1);
    heard.isWhole(3 * TURNS);
  }
}

async function idle_streams_outlive_the_proxies_limit(stage) {
  const server = await stage.start("serve", ["--dev", "--trusted-proxies", "127.0.0.1", "--progress-interval", "1s"]);
  const ways = await stage.ways(server.address("edge"), { idleSeconds: 3 });
  const heard = stage.hearInPython("httpx_sse_reader.py", ways);
  stage.hearInNode(ws, ways);
  const isTold = () => [...ways.keys()].every((way) => heard.told(way, "progress") >= 5);
  await waitUntil(isTold, "each way was idle for five seconds and is told so");
  // Nobody of the two came a second time.
  equal([...ways.keys()].map((name) => stage.relays.get(name).taken), [2, 2, 2]);
}

export const SCENES = { nginx_with_one_line, a_gateway_is_killed, idle_streams_outlive_the_proxies_limit };
