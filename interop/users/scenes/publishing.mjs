// Events of CloudEvents SDKs, compressed ones, and those of pages on other origins.

import path from "node:path";
import { text } from "node:stream/consumers";
import { brotliCompressSync, gzipSync } from "node:zlib";

import { equal } from "../checks.mjs";
import { start } from "../processes.mjs";
import { publish as publishBySdk, parse } from "../publishers/cloudevents.mjs";
import * as eventsource from "../readers/eventsource.mjs";
import { post, turnEvent } from "../stage.mjs";

const TURNS = 4;
const BINARY = { "ce-specversion": "1.0", "ce-source": "interop", "ce-type": "turn.ready", "ce-to": "user:42" };

/** Starts a server and a reader, has somebody publish these turns, and reads them with the SDK of npm. */
async function arrives(stage, subject, publish) {
  const server = await stage.start("serve");
  const handed = [];
  stage.closing(eventsource.read(server.urls.edge, (_, data) => handed.push(data)));
  const events = Array.from({ length: TURNS }, (_, turn) => ({ ...turnEvent(turn), subject, time: TIME }));
  const results = await publish(server, events);
  equal(results.map(({ id, duplicate }) => [id, duplicate]), events.map(({ id }) => [id, false]), JSON.stringify(results));
  const heard = stage.hearInNode(eventsource, new Map([["direct", server.urls.edge]]));
  await heard.wait(TURNS - 1);
  heard.isWhole(TURNS);
  // `to` is nobody's business, everything else is as it was sent.
  const seen = handed.map((data) => ({ ...JSON.parse(JSON.stringify(parse(data))), to: "user:42" }));
  equal(seen.map(sorted), events.map(sorted));
}

const TIME = "2026-11-29T12:00:00.000Z";
const sorted = (event) => Object.fromEntries(Object.entries(event).sort());

// In binary mode this SDK writes attributes as they are: what is not ASCII never was what its program meant, and is refused.
const npm_cloudevents = (stage) => arrives(stage, "turns", ({ urls }, events) => publishBySdk(urls.hub, events));

const pypi_cloudevents = (stage) =>
  arrives(stage, "Züge: 100 %", async ({ urls }, events) => {
    const script = path.join(import.meta.dirname, "../publishers/cloudevents_publisher.py");
    const publisher = start(stage.python, [script, urls.hub, JSON.stringify(events)], { log: stage.log });
    return (await text(publisher.stdout)).trim().split("\n").map((line) => JSON.parse(line));
  });

async function compressed_requests(stage) {
  const server = await stage.start("serve");
  const structured = (turn) => [{ "content-type": "application/cloudevents+json" }, JSON.stringify(turnEvent(turn))];
  const binary = (turn) => [{ ...BINARY, "ce-id": `turn-${turn}`, "content-type": "application/json" }, JSON.stringify(turnEvent(turn).data)];
  let turn = 0;
  for (const mode of [structured, binary]) {
    const [headers, body] = mode(turn);
    turn += 1;
    const taken = await post(server, { ...headers, "content-encoding": "gzip" }, gzipSync(body));
    equal(taken.status, 200, JSON.stringify(taken.body));
    const [others, more] = mode("never");
    const refused = await post(server, { ...others, "content-encoding": "br" }, brotliCompressSync(more));
    equal(refused.status, 415, JSON.stringify(refused.body));
  }
  const heard = stage.hearInNode(eventsource, new Map([["direct", server.urls.edge]]));
  await heard.wait(turn - 1);
  heard.isWhole(turn);
}

async function a_page_of_another_origin_publishes(stage) {
  const server = await stage.start("serve");
  const page = await stage.page();
  const headers = { ...BINARY, "ce-id": "turn-0", "ce-time": TIME, "ce-whatever": "x", "content-type": "application/json", traceparent: TRACE };
  const ask = async ([url, headers, body]) => (await fetch(url, { method: "POST", headers, body })).json();
  const answer = await page.evaluate(ask, [`${server.urls.edge}/v1/events`, headers, JSON.stringify(turnEvent(0).data)]);
  equal(answer.results?.[0].id, "turn-0", JSON.stringify(answer));
  const heard = stage.hearInNode(eventsource, new Map([["direct", server.urls.edge]]));
  await heard.wait(0);
  heard.isWhole(1);
}

const TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

export const SCENES = { npm_cloudevents, pypi_cloudevents, compressed_requests, a_page_of_another_origin_publishes };
