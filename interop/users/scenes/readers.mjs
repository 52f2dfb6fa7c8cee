// One reader each, as its library makes it: directly, behind nginx and behind haproxy at the same time.

import { equal } from "../checks.mjs";
import * as eventsource from "../readers/eventsource.mjs";
import * as ws from "../readers/ws.mjs";

/** The turns behind whose number a line is cut: one in each round, and one more in the replay of the last. */
const CUTS = [3, 10, 17, 20];
const ROUNDS = 3;
const TURNS = 8;

/** Publishes in rounds, so that every reader is live, is cut, replays and is live again. */
export async function isWhole(stage, open, openWays = (gateway) => stage.ways(gateway, { turns: CUTS })) {
  const server = await stage.start("serve", ["--dev", "--trusted-proxies", "127.0.0.1"]);
  const ways = await openWays(server.address("edge"));
  const heard = await open(ways);
  for (let round = 1; round <= ROUNDS; round += 1) {
    await stage.publishTurns(server, TURNS);
    await heard.wait(round * TURNS - 1);
  }
  heard.isWhole(ROUNDS * TURNS);
  equal(stage.uncut(), [], "a line was not cut");
}

const inNode = (module) => (stage) => isWhole(stage, (ways) => stage.hearInNode(module, ways));
const inPython = (file) => (stage) => isWhole(stage, (ways) => stage.hearInPython(file, ways));
const onPages = (name) => (stage) => isWhole(stage, (ways) => stage.hearOnPages(name, ways));

export const SCENES = {
  npm_eventsource: inNode(eventsource),
  npm_ws: inNode(ws),
  pypi_httpx_sse: inPython("httpx_sse_reader.py"),
  pypi_websockets: inPython("websockets_reader.py"),
  go_coder_websocket: (stage) => isWhole(stage, (ways) => stage.hearIn(stage.goReader, [], ways)),
  chromium_eventsource: onPages("eventsource"),
  chromium_eventsource_with_credentials: onPages("eventsource-with-credentials"),
  npm_event_source_polyfill: onPages("event-source-polyfill"),
  npm_reconnecting_eventsource: onPages("reconnecting-eventsource"),
  npm_fetch_event_source: onPages("fetch-event-source"),
};
