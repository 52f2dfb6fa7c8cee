// Plays every scene and prints which of them passed: `cargo xtask interop node` calls this and knows where everything is.
//
// Exits 1 if a scene failed, or if SCENES.md lists other scenes than there are here.

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { Stage } from "./stage.mjs";
import * as around from "./scenes/around.mjs";
import * as calls from "./scenes/calls.mjs";
import * as fencing from "./scenes/fencing.mjs";
import * as lines from "./scenes/lines.mjs";
import * as publishing from "./scenes/publishing.mjs";
import * as readers from "./scenes/readers.mjs";
import * as reading from "./scenes/reading.mjs";

const MODULES = [reading, lines, fencing, calls, publishing, readers, around];
// Most scenes wait for a timer or for the other side, so more of them run at a time than there are cores.
const AT_A_TIME = 8;
const HEAD = "## A peer reads and publishes";

const text = { type: "string" };
const { values: asked } = parseArgs({
  options: { binary: text, scenes: text, work: text, only: { ...text, default: "" } },
});

/** What each scene of the list must show. */
function meanings() {
  const list = readFileSync(asked.scenes, "utf8").split(HEAD)[1].split("\n## ")[0];
  const rows = list.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| scene "));
  return new Map(rows.map((row) => row.slice(1, -1).split(/\|(.*)/, 2).map((cell) => cell.trim())));
}

/** The scenes of this program, in the order of the list. */
function paired() {
  const here = new Map(MODULES.flatMap((module) => Object.values(module.SCENES)).map((scene) => [scene.name, scene]));
  const listed = meanings();
  const missing = [...listed.keys()].filter((name) => !here.has(name));
  const unknown = [...here.keys()].filter((name) => !listed.has(name));
  if (missing.length || unknown.length) {
    throw new Error(`SCENES.md and this program differ: not here [${missing}], not in the list [${unknown}]`);
  }
  return [...listed].map(([name, meaning]) => ({ name, meaning, scene: here.get(name) }));
}

async function play({ name, meaning, scene }, width) {
  const log = path.join(asked.work, `${name}.log`);
  rmSync(log, { force: true });
  const start = performance.now();
  const stage = new Stage(asked.binary, log);
  let [outcome, note] = ["pass", undefined];
  try {
    note = await scene(stage);
  } catch (error) {
    outcome = "FAIL";
    console.log(`${error.stack}\nthe hub's log is ${log}`);
  } finally {
    await stage.close();
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(2).padStart(5);
  console.log(`${outcome}  ${name.padEnd(width)}  ${seconds} s  ${note ? `${meaning} [${note}]` : meaning}`);
  return outcome === "pass";
}

const chosen = paired().filter(({ name }) => name.includes(asked.only));
mkdirSync(asked.work, { recursive: true });
const start = performance.now();
const width = Math.max(...chosen.map(({ name }) => name.length));
const waiting = chosen[Symbol.iterator]();
let passed = 0;
const players = Array.from({ length: AT_A_TIME }, async () => {
  for (const scene of waiting) if (await play(scene, width)) passed += 1;
});
await Promise.all(players);
const seconds = ((performance.now() - start) / 1000).toFixed(1);
console.log(chosen.length ? `${passed} of ${chosen.length} scenes passed in ${seconds} s` : `no scene is called ${asked.only}`);
process.exit(passed === chosen.length && passed > 0 ? 0 : 1);
