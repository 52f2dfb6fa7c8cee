// Plays the scenes of people's own libraries and prints which of them passed: `cargo xtask interop users` calls this and knows
// where everything is.
//
// Exits 1 if a scene failed, or if SCENES.md lists other scenes than there are here.

import { parseArgs } from "node:util";

import { playAll } from "../node/playing.mjs";
import { Pages } from "./pages.mjs";
import { Stage } from "./stage.mjs";
import * as proxies from "./scenes/proxies.mjs";
import * as publishing from "./scenes/publishing.mjs";
import * as readers from "./scenes/readers.mjs";
import * as readme from "./scenes/readme.mjs";
import * as tokens from "./scenes/tokens.mjs";

const text = { type: "string" };
const names = ["binary", "scenes", "work", "python", "go-reader", "browser", "modules", "nginx", "haproxy", "libraries"];
const { values: asked } = parseArgs({
  options: { ...Object.fromEntries(names.map((name) => [name, text])), only: { ...text, default: "" } },
});

let pages;
const tools = {
  binary: asked.binary,
  python: asked.python,
  goReader: asked["go-reader"],
  proxies: Object.fromEntries(["nginx", "haproxy"].map((name) => [name, { program: asked[name], libraries: asked.libraries }])),
  // One browser, started by the first scene that needs it.
  pages: () => (pages ??= Pages.start(asked.browser, asked.modules)),
};

const code = await playAll(
  Object.assign({}, ...[readers, proxies, tokens, publishing, readme].map(({ SCENES }) => SCENES)),
  {
    list: asked.scenes,
    head: "People come with their own libraries",
    work: asked.work,
    only: asked.only,
    // Most of them wait until a reader comes back.
    atATime: 5,
    openStage: (log) => new Stage(tools, log),
  },
);
await (await pages)?.close();
process.exit(code);
