// Plays the scenes of one list of SCENES.md and prints which of them passed. Knows no scene and no process.

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";

/** What each scene below this head of the list must show. */
function meanings(list, head) {
  const below = readFileSync(list, "utf8").split(`## ${head}\n`)[1].split("\n## ")[0];
  const rows = below.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| scene "));
  return new Map(rows.map((row) => row.slice(1, -1).split(/\|(.*)/, 2).map((cell) => cell.trim())));
}

/** These scenes, in the order of the list. A program that has other scenes than its list does not run. */
function paired(scenes, list, head) {
  const here = new Map(Object.entries(scenes));
  const listed = meanings(list, head);
  const missing = [...listed.keys()].filter((name) => !here.has(name));
  const unknown = [...here.keys()].filter((name) => !listed.has(name));
  if (missing.length || unknown.length) {
    throw new Error(`SCENES.md and this program differ: not here [${missing}], not in the list [${unknown}]`);
  }
  return [...listed].map(([name, meaning]) => ({ name, meaning, scene: here.get(name) }));
}

async function play({ name, meaning, scene }, width, work, openStage) {
  const log = path.join(work, `${name}.log`);
  rmSync(log, { force: true });
  const start = performance.now();
  const stage = openStage(log);
  let [outcome, note] = ["pass", undefined];
  try {
    note = await scene(stage);
  } catch (error) {
    outcome = "FAIL";
    console.log(`${error.stack}\nthe log of the processes is ${log}`);
  } finally {
    await stage.close();
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(2).padStart(5);
  console.log(`${outcome}  ${name.padEnd(width)}  ${seconds} s  ${note ? `${meaning} [${note}]` : meaning}`);
  return outcome === "pass";
}

/** Plays those of the scenes, by name, whose name contains `only`, so many at a time, each on a stage of its own; answers with the exit code. */
export async function playAll(scenes, { list, head, work, only, atATime, openStage }) {
  const chosen = paired(scenes, list, head).filter(({ name }) => name.includes(only));
  mkdirSync(work, { recursive: true });
  const start = performance.now();
  const width = Math.max(...chosen.map(({ name }) => name.length));
  const waiting = chosen[Symbol.iterator]();
  let passed = 0;
  const players = Array.from({ length: atATime }, async () => {
    for (const scene of waiting) if (await play(scene, width, work, openStage)) passed += 1;
  });
  await Promise.all(players);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(chosen.length ? `${passed} of ${chosen.length} scenes passed in ${seconds} s` : `no scene is called ${only}`);
  return passed === chosen.length && passed > 0 ? 0 : 1;
}
