// The examples of the project's documents, so that what is promised there is what is played. Nothing here checks anything.

import { readFileSync } from "node:fs";

/** The first block of this language whose text contains `words`. Called in the project's root. */
export function block(file, language, words = "") {
  const blocks = readFileSync(file, "utf8").matchAll(/^```(\w*)\n(.*?)^```/gms);
  for (const [, found, text] of blocks) if (found === language && text.includes(words)) return text;
  throw new Error(`${file} has no block of ${language} with ${words}`);
}
