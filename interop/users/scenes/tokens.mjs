// Tokens of an identity provider, and the limits that libraries have of themselves.

import { createSign, generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";

import { equal, waitUntil } from "../checks.mjs";
import { turnEvent } from "../stage.mjs";

const TURNS = 8;
const CUTS = [2, 5];

/** A key set as identity providers publish it: with a key for encryption beside the one that signs. */
function identityProvider() {
  const make = () => generateKeyPairSync("rsa", { modulusLength: 2048 });
  const [signing, encrypting] = [make(), make()];
  const jwk = ({ publicKey }, more) => ({ ...publicKey.export({ format: "jwk" }), ...more });
  const keys = [jwk(encrypting, { kid: "enc", use: "enc", alg: "RSA-OAEP" }), jwk(signing, { kid: "sig", use: "sig", alg: "RS256" })];
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (claims) => {
    const now = Math.floor(Date.now() / 1000);
    const text = `${part({ alg: "RS256", typ: "JWT", kid: "sig" })}.${part({ iat: now, exp: now + 600, ...claims })}`;
    return `${text}.${createSign("RSA-SHA256").update(text).sign(signing.privateKey, "base64url")}`;
  };
  return { jwks: JSON.stringify({ keys }), token };
}

async function rs256_token_of_a_page(stage) {
  const provider = identityProvider();
  const keys = `${stage.log}.keys.json`;
  writeFileSync(keys, provider.jwks);
  const { origin } = await stage.pages();
  const server = await stage.start("serve", ["--user-keys", keys, "--allowed-origins", origin, "--trusted-proxies", "127.0.0.1"]);
  const ways = await stage.ways(server.address("edge"), { turns: CUTS });
  // As long as those of people with many groups.
  const groups = Array.from({ length: 150 }, (_, number) => `group-of-people-number-${number}`);
  const token = provider.token({ sub: "42", groups });
  const heard = await stage.hearOnPages("fetch-event-source", ways, { token });
  await stage.publishTurns(server, TURNS);
  await heard.wait(TURNS - 1);
  heard.isWhole(TURNS);
  equal(stage.uncut(), []);
}

async function pypi_websockets_meets_an_event_above_its_limit(stage) {
  const server = await stage.start("serve", ["--max-event-bytes", "1MiB"]);
  const heard = stage.hearInPython("websockets_reader.py", new Map([["direct", server.urls.edge]]));
  await stage.publishTurns(server, 1);
  const large = turnEvent(1);
  // Just below the hub's limit; with what stands around it, above the 1 MiB of the library.
  const padding = "x".repeat((1 << 20) - JSON.stringify({ turn: 1, padding: "" }).length);
  await stage.publish(server, { ...large, data: { turn: 1, padding } });
  stage.published += 1;
  await stage.publishTurns(server, 1);
  await waitUntil(() => heard.turns.get("direct").includes(2), () => `the reader gets past it: ${heard.turns.get("direct")} ${heard.troubles}`);
  equal(heard.turns.get("direct"), [0, 2]);
  equal(heard.told("direct", "gap"), 1, "it is told of a gap");
}

export const SCENES = { rs256_token_of_a_page, pypi_websockets_meets_an_event_above_its_limit };
