// Starts the real program on free ports and stops exactly that process again.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export interface Weir {
  url: string;
  process: ChildProcess;
  stop: () => Promise<void>;
}

export function weirBinary(): string {
  const binary = process.env.WEIR_BIN;
  if (!binary) throw new Error("WEIR_BIN names no binary; run `make test-web`, or build weir and set WEIR_BIN=target/debug/weir");
  return binary;
}

/** `weir serve` with the given further arguments; resolves when it listens. */
export function startServe(args: string[] = []): Promise<Weir> {
  const ports = ["--listen", "127.0.0.1:0", "--otlp-grpc-listen", "127.0.0.1:0", "--otlp-http-listen", "127.0.0.1:0"];
  const data = ["--data-dir", mkdtempSync(join(tmpdir(), "weir-e2e-"))];
  return start(["serve", ...ports, ...data, "--memory-limit", "512MiB", ...args], /^weir ready (\S+)/);
}

/** Runs the binary until a line of its standard output matches; the first group is its URL. */
export function start(args: string[], ready: RegExp, patienceMs = 60_000): Promise<Weir> {
  const child = spawn(weirBinary(), args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "warn" } });
  const said: string[] = [];
  child.stderr.on("data", (data: Buffer) => said.push(data.toString()));
  const stop = () =>
    new Promise<void>((done) => {
      if (child.exitCode !== null || child.signalCode !== null) return done();
      const hard = setTimeout(() => child.kill("SIGKILL"), 10_000);
      child.once("exit", () => {
        clearTimeout(hard);
        done();
      });
      child.kill("SIGTERM");
    });
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`weir ${args.join(" ")}: ${why}\n${said.join("")}`));
    const late = setTimeout(() => {
      void stop();
      fail(`not ready after ${patienceMs} ms`);
    }, patienceMs);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`ended with ${code}`));
    createInterface({ input: child.stdout }).on("line", (line) => {
      said.push(`${line}\n`);
      const url = ready.exec(line)?.[1];
      if (!url) return;
      clearTimeout(late);
      resolve({ url: url.replace(/\/$/, ""), process: child, stop });
    });
  });
}
