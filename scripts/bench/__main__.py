#!/usr/bin/env python3
"""Measures the release build with the yardstick and writes docs/benchmarks.md.

Usage: scripts/bench [--weir PATH] [--yardstick DIR] [--recording FILE] [--only 'base;logs;…'] [--peer]

Each load goes to a fresh server; what was sent is read back before a figure counts. The tables of a
load that is not run keep what docs/benchmarks.json has for them.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import readback
import servers
from loads import LOADS
from page import page

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def run(command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def flushed(server):
    """Whether the server has an endpoint that writes out and merges what it holds."""
    try:
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/weir/v1/flush", method="POST"), timeout=600)
        return True
    except urllib.error.HTTPError:
        return False


def measure(load, server, yardstick, body, span, queries, connections, is_compared):
    start, end = span
    text = run([yardstick, "replay", body, "--url", f"{server.url}{load.path}", "--connections", connections,
                "--pid", server.process.pid, "--settle", 20])
    items, rate = re.search(r"items (\d+) wall [\d.]+ s rate (\d+)/s", text).groups()
    per_cpu, rss, peak = re.search(r"\((\d+) items per cpu-second\) rss (\d+) MiB peak (\d+) MiB", text).groups()
    failed = int(re.search(r"failed (\d+)", text).group(1))
    n_items = int(items)
    settled = server.bytes_on_disk()
    found = readback.count(load.signal, server.url, start - 60, end + 60)
    if failed or found != n_items:
        sys.exit(f"sent {items}, refused {failed}, read back {found}: the figures do not count\n{text}")
    result = {"items": n_items, "read back": found, "items per second": int(rate), "items per CPU-second": int(per_cpu),
              "resident MiB": int(rss), "peak MiB": int(peak), "bytes per item, settled": settled / n_items, "queries": {}}
    if queries:
        table = run([yardstick, "query", queries, "--url", server.url, "--set", f"s={start}", "--set", f"e={end}", "--runs", 7])
        for line in table.splitlines()[1:]:
            query, first, p50, _max, _bytes, status = line.split()
            result["queries"][query] = {"first ms": float(first), "p50 ms": float(p50), "status": int(status)}
    if is_compared:
        result["items compared"] = readback.items(load.signal, server.url, body)
        if flushed(server):
            result["bytes per item, flushed"] = server.bytes_on_disk() / n_items
    return result


def built_yardstick(folder, work):
    """A read-only checkout cannot hold the lock file and the target that cargo wants to write."""
    sources = work / "yardstick-src"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(folder, sources, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("target"))
    for path in [sources, *sources.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    target = work / "yardstick"
    run(["cargo", "build", "--release", "--manifest-path", sources / "Cargo.toml"], env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / "release/yardstick"


def one(name, args, work, yardstick):
    load = LOADS[name]
    now = int(time.time())
    start = now - load.lead
    body = work / "body.bin"
    clock = ["--start-ms", f"{start}000"] if load.signal == "metrics" else ["--start-ns", f"{start}000000000"]
    source = ["--recording", args.recording] if load.signal == "metrics" else []
    run([yardstick, *load.generator, *source, "--out", body, *clock])
    queries = args.yardstick / "queries" / load.queries if load.queries else None
    got = {"command": f"yardstick {' '.join(load.generator)}; replay over {load.connections} connection(s) to {load.path}",
           "commit": run(["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"]).strip(),
           "machine": f"{os.cpu_count()} cores, {platform.machine()}", "date": time.strftime("%Y-%m-%d", time.gmtime())}
    runs = {"weir": (servers.weir, load.connections)}
    if args.peer and load.signal == "metrics" and "--v2" not in load.generator:
        # Its writer keeps the order of one queue shard, so it gets one connection.
        runs["prometheus"] = (servers.prometheus, 1)
    for who, (start_server, connections) in runs.items():
        server = start_server(args.weir)
        try:
            got[who] = measure(load, server, yardstick, body, (start, now), queries, connections, who == "weir")
        finally:
            server.stop()
        print(name, who, json.dumps(got[who]), flush=True)
    body.unlink()
    return got


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=ROOT / "target/release/weir", type=pathlib.Path)
    parser.add_argument("--yardstick", default=os.environ.get("YARDSTICK", ROOT / "../shared/yardstick"), type=pathlib.Path)
    parser.add_argument("--recording", default=ROOT / "../shared/datasets/node-exporter/scrapes.txt.zst", type=pathlib.Path)
    parser.add_argument("--only", help="names of loads, separated by semicolons", default=";".join(LOADS))
    parser.add_argument("--peer", action="store_true", help="run Debian's Prometheus on the metrics loads too")
    parser.add_argument("--out", help="folder of benchmarks.json and benchmarks.md", default=ROOT / "docs", type=pathlib.Path)
    args = parser.parse_args()
    work = ROOT / "target/bench"
    work.mkdir(parents=True, exist_ok=True)
    yardstick = built_yardstick(args.yardstick, work)
    store = args.out / "benchmarks.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    for name in args.only.split(";"):
        results[name] = one(name, args, work, yardstick)
        store.write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "benchmarks.md").write_text(page(results))


if __name__ == "__main__":
    main()
