// The pages of a product in Chromium, on an origin of their own. Nothing here checks anything.

import { createServer } from "node:http";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

const HERE = import.meta.dirname;

/** Where each library has its file for browsers. */
const MODULES = {
  "@microsoft/fetch-event-source": "@microsoft/fetch-event-source/lib/esm/index.js",
  "event-source-polyfill": "event-source-polyfill/src/eventsource.js",
  "reconnecting-eventsource": "reconnecting-eventsource/build/esm/reconnecting-eventsource.js",
};
const IMPORTS = Object.fromEntries(Object.entries(MODULES).map(([name, file]) => [name, `/modules/${file}`]));
const PAGE = `<!doctype html><title>page</title><script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`;

/** One browser for all scenes, and the server of its pages. */
export class Pages {
  #documents = new Map([["/", PAGE]]);

  static async start(browser, modules) {
    const pages = new Pages();
    pages.server = createServer((request, response) => pages.#answer(request, response, modules)).listen(0, "127.0.0.1");
    await once(pages.server, "listening");
    pages.origin = `http://localhost:${pages.server.address().port}`;
    pages.browser = await chromium.launch({ executablePath: browser, args: ["--no-sandbox"] });
    return pages;
  }

  /** A page that is told nothing of other scenes: cookies, caches and connections are its own. */
  async open(address, html) {
    if (html) this.#documents.set(address, html);
    const context = await this.browser.newContext({ baseURL: this.origin });
    const page = await context.newPage();
    await page.goto(address);
    return page;
  }

  #answer(request, response, modules) {
    const { pathname } = new URL(request.url, "http://localhost");
    try {
      const html = this.#documents.get(pathname);
      const [type, text] = html ? ["text/html", html] : ["text/javascript", script(pathname, modules)];
      response.writeHead(200, { "content-type": type }).end(text);
    } catch {
      response.writeHead(404).end();
    }
  }

  async close() {
    await this.browser.close();
    this.server.close();
  }
}

function script(pathname, modules) {
  const [, folder, file] = pathname.match(/^\/(pages|modules)\/(.*)$/);
  const found = path.join(folder === "pages" ? path.join(HERE, "pages") : modules, file);
  // What a library imports of itself has no ending, as bundlers allow it.
  return readFileSync(path.extname(found) ? found : `${found}.js`);
}
