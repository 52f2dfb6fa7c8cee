// What the README promises to whoever copies from it.

import { equal, waitUntil } from "../checks.mjs";
import { block } from "../documents.mjs";
import { post } from "../stage.mjs";

const TURNS = 8;
const CUTS = ['"turn":2,', '"turn":3,', '"turn":5,'];

async function the_readmes_page(stage) {
  const server = await stage.start("serve");
  const relay = await stage.relay(server.address("edge"), CUTS);
  const html = block("README.md", "html");
  const page = await stage.page("/page.html", html.replaceAll("127.0.0.1:8080", relay.address));
  await waitUntil(async () => (await server.metric("push_edge_readers")) === 2, "both read");
  await stage.publishTurns(server, TURNS);

  // What is shown of the events, which alone have turns.
  const shown = async (how) => {
    const text = await page.locator("body").innerText();
    return [...text.matchAll(new RegExp(`^${how}.*"turn":(\\d+)`, "gm"))].map(([, turn]) => Number(turn));
  };
  const all = Array.from({ length: TURNS }, (_, turn) => turn);
  for (const how of ["EventSource", "WebSocket"]) {
    await waitUntil(async () => (await shown(how)).includes(TURNS - 1), `${how} shows the last turn`);
    equal(await shown(how), all);
  }
  equal(relay.cutsLeft, []);
}

async function the_readmes_request_twice(stage) {
  const server = await stage.start("serve");
  const command = block("README.md", "sh", "/v1/events");
  const [, headers, body] = command.match(/-H '([^']*)' -d '([^']*)'/);
  const [name, value] = headers.split(": ");
  const answers = [];
  for (let time = 0; time < 2; time += 1) answers.push((await post(server, { [name]: value }, body)).body.results[0]);
  equal(answers.map(({ duplicate }) => duplicate), [false, true]);
  equal(answers[0].cursor, answers[1].cursor);
}

export const SCENES = { the_readmes_page, the_readmes_request_twice };
