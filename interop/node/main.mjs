// Plays every scene and prints which of them passed: `cargo xtask interop node` calls this and knows where everything is.
//
// Exits 1 if a scene failed, or if SCENES.md lists other scenes than there are here.

import { parseArgs } from "node:util";

import { playAll } from "./playing.mjs";
import { Stage } from "./stage.mjs";
import * as around from "./scenes/around.mjs";
import * as calls from "./scenes/calls.mjs";
import * as fencing from "./scenes/fencing.mjs";
import * as lines from "./scenes/lines.mjs";
import * as publishing from "./scenes/publishing.mjs";
import * as readers from "./scenes/readers.mjs";
import * as reading from "./scenes/reading.mjs";

const SCENES = [reading, lines, fencing, calls, publishing, readers, around].flatMap(({ SCENES }) => Object.values(SCENES));

const text = { type: "string" };
const { values: asked } = parseArgs({
  options: { binary: text, scenes: text, work: text, only: { ...text, default: "" } },
});

process.exit(
  await playAll(Object.fromEntries(SCENES.map((scene) => [scene.name, scene])), {
    list: asked.scenes,
    head: "A peer reads and publishes",
    work: asked.work,
    only: asked.only,
    // Most scenes wait for a timer or for the other side, so more of them run at a time than there are cores.
    atATime: 8,
    openStage: (log) => new Stage(asked.binary, log),
  }),
);
