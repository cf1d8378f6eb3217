// The built page over plain HTTP, as the binary would serve it; API calls may be passed on to a running weir.
import { createReadStream, existsSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

export async function serveDist(upstream?: string): Promise<{ url: string; stop: () => void }> {
  if (!existsSync(join(DIST, "assets"))) throw new Error("the page is not built; run `make web`");
  const server = createServer((incoming, outgoing) => {
    const path = (incoming.url ?? "/").split("?")[0] ?? "/";
    if (/^\/(api|loki)\//.test(path)) {
      if (!upstream) return void outgoing.writeHead(404).end("no fixture for this path");
      const passed = request(upstream + incoming.url, { method: incoming.method, headers: incoming.headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      });
      passed.on("error", () => outgoing.writeHead(502).end());
      return void incoming.pipe(passed);
    }
    const file = normalize(join(DIST, decodeURIComponent(path)));
    const found = file.startsWith(DIST) && extname(file) !== "" && existsSync(file) ? file : join(DIST, "index.html");
    outgoing.writeHead(200, { "Content-Type": TYPES[extname(found)] ?? "application/octet-stream" });
    createReadStream(found).pipe(outgoing);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, stop: () => server.close() };
}
