// nginx and haproxy in front of a gateway, with the lines that docs/deploy.md gives. Only what a document cannot know is
// replaced: addresses, and the certificate. Nothing here checks anything.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

import { waitUntil } from "./checks.mjs";
import { block } from "./documents.mjs";
import { freePort, isListening, start } from "./processes.mjs";

/** What Debian's nginx.conf says of proxied requests, and where a process of our own may write. A minute is nginx's default. */
const nginxConf = (folder, server, idleSeconds = 60) => `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr;
events { worker_connections 768; }
http {
  sendfile on;
  tcp_nopush on;
  types_hash_max_size 2048;
  default_type application/octet-stream;
  gzip on;
  access_log off;
  proxy_read_timeout ${idleSeconds}s;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join("\n  ")}
  ${server}
}
`;

/** The section `defaults` of Debian's haproxy.cfg. */
const haproxyDefaults = (idleSeconds = 50) => `
defaults
  mode http
  option dontlognull
  timeout connect 5000
  timeout client ${idleSeconds}s
  timeout server ${idleSeconds}s
`;

/** Each is told where the gateway is, and after how many seconds to give up an idle connection; answers with its address. */
export const FRONTS = {
  async nginx(stage, gateway, idleSeconds) {
    const lines = block("docs/deploy.md", "nginx");
    const server = (port) =>
      lines
        .replace(/listen .*;/, `listen 127.0.0.1:${port};`)
        .replaceAll(/ssl_certificate.*;/g, "")
        .replaceAll("127.0.0.1:8080", gateway);
    return nginx(stage, server, idleSeconds);
  },

  async haproxy(stage, gateway, idleSeconds) {
    const { origin } = await stage.pages();
    const [lines, later] = [block("docs/deploy.md", "haproxy"), block("docs/deploy.md", "http")];
    return front(stage, "haproxy", (port, folder) => {
      writeFileSync(`${folder}/later.http`, later.replace("https://app.example", origin));
      const text = lines
        .replace(/bind .*/, `bind 127.0.0.1:${port}`)
        .replaceAll("/etc/haproxy/later.http", `${folder}/later.http`)
        .replaceAll("127.0.0.1:8080", gateway);
      writeFileSync(`${folder}/haproxy.cfg`, haproxyDefaults(idleSeconds) + text);
      return ["-f", `${folder}/haproxy.cfg`, "-db"];
    });
  },
};

/** nginx with all its defaults: one line that says where the gateway is. */
export function nginxOfOneLine(stage, gateway) {
  return nginx(stage, (port) => `server { listen 127.0.0.1:${port}; location / { proxy_pass http://${gateway}; } }`);
}

function nginx(stage, server, idleSeconds) {
  return front(stage, "nginx", (port, folder) => {
    writeFileSync(`${folder}/nginx.conf`, nginxConf(folder, server(port), idleSeconds));
    return ["-p", folder, "-c", `${folder}/nginx.conf`, "-e", "stderr"];
  });
}

/** Starts the proxy; its address. */
async function front(stage, name, configure) {
  const port = await freePort();
  const folder = path.resolve(mkdtempSync(`${stage.log}.${name}-`));
  const { program, libraries } = stage.proxies[name];
  const proxy = start(program, configure(port, folder), { log: stage.log, env: { LD_LIBRARY_PATH: libraries } });
  stage.closing(async () => {
    proxy.kill(); // not as a crash would: nginx has a process below it
    await proxy.exited;
    rmSync(folder, { recursive: true, force: true });
  });
  await waitUntil(() => isListening(port), `${name} listens`);
  return `127.0.0.1:${port}`;
}
