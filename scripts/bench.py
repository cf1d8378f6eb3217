#!/usr/bin/env python3
"""Measures the release build with the yardstick and writes docs/benchmarks.md.

Usage: scripts/bench.py [--weir PATH] [--yardstick DIR] [--recording FILE] [--only base,logs,…]

Each load goes to a fresh server; what was sent is read back before a figure counts. The tables of a
load that is not run keep what docs/benchmarks.md has for it (docs/benchmarks.json holds the figures).
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"

# What DESIGN asks for in the end, beside what is measured: (row, unit, target).
TARGETS = {
    ("base", "items per CPU-second"): "3.0M",
    ("base", "items per second"): "3.0M",
    ("base", "resident MiB"): "250",
    ("long", "items per CPU-second"): "4.0M",
    ("wide", "items per CPU-second"): "600k",
    ("wide", "resident MiB"): "700",
    ("logs", "items per CPU-second"): "500k",
    ("logs", "resident MiB"): "300",
    ("traces", "items per CPU-second"): "350k",
    ("traces", "resident MiB"): "500",
    ("base", "rate_sum_all"): "10",
    ("base", "rate_avg_by_instance"): "20",
    ("base", "instant_count_all"): "100",
    ("long", "rate_sum_5h"): "4",
    ("long", "max_by_instance"): "4",
    ("logs", "needle"): "5",
    ("logs", "rate_by_app"): "20",
    ("logs", "json_filter"): "30",
    ("logs", "p99_unwrap"): "40",
    ("traces", "by_id"): "3",
    ("traces", "errors"): "3",
    ("traces", "attr_eq"): "8",
    ("traces", "structural"): "15",
    ("traces", "rate_by_service"): "6",
}

# name: (generator arguments, path, connections, query file, seconds the data spans, lead in seconds)
LOADS = {
    "base": (["gen-metrics", "--instances", "200", "--scrapes", "120"], "/api/v1/write", 4, "metrics-base.tsv", 1920),
    "long": (["gen-metrics", "--instances", "40", "--scrapes", "1400", "--batch", "10000"], "/api/v1/write", 1, "metrics-long.tsv", 21300),
    "wide": (["gen-metrics", "--instances", "2000", "--scrapes", "6", "--batch", "10000"], "/api/v1/write", 4, None, 200),
    "logs": (["gen-logs", "--lines", "4000000", "--step-ns", "800000"], "/loki/api/v1/push", 4, "logs-loki.tsv", 3600),
    "traces": (["gen-traces", "--traces", "100000", "--step-ns", "30000000"], "/v1/traces", 4, "traces-tempo.tsv", 3600),
}


def run(command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def get(url, path, **params):
    query = urllib.parse.urlencode(params)
    with urllib.request.urlopen(f"{url}{path}?{query}", timeout=300) as reply:
        return json.load(reply)


def stored(name, url, start, end):
    """How many items the server gives back."""
    if name in ("base", "long", "wide"):
        # Name by name: a function drops the name, and series that differ in nothing else are an error.
        total = 0
        for metric in get(url, "/api/v1/label/__name__/values")["data"]:
            query = 'sum(count_over_time({__name__="%s"}[%ds]))' % (metric, end - start)
            reply = get(url, "/api/v1/query", query=query, time=end)
            total += sum(int(float(series["value"][1])) for series in reply["data"]["result"])
        return total
    if name == "logs":
        query = 'sum(count_over_time({cluster="prod-eu-1"}[%ds]))' % (end - start)
        reply = get(url, "/loki/api/v1/query", query=query, time=end)
        return int(float(reply["data"]["result"][0]["value"][1]))
    reply = get(url, "/api/metrics/query_range", q="{} | count_over_time()", start=start, end=end, step="60s")
    return int(sum(float(s.get("value", 0)) for series in reply["series"] for s in series["samples"]))


class Server:
    def __init__(self, command, ready):
        self.dir = tempfile.mkdtemp(prefix="weir-bench-")
        self.log = open(pathlib.Path(self.dir) / "server.log", "w")
        self.process = subprocess.Popen(command(self.dir), stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = ready(self.process)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def weir(binary):
    flags = [f"--{name}=127.0.0.1:0" for name in ("listen", "otlp-grpc-listen", "otlp-http-listen")]
    return Server(lambda folder: [binary, "serve", *flags, "--data-dir", f"{folder}/data"], lambda process: process.stdout.readline().split()[2])


def prometheus(_binary):
    port = 19095

    def command(folder):
        config = pathlib.Path(folder) / "prometheus.yml"
        config.write_text("storage:\n  tsdb:\n    out_of_order_time_window: 24h\n")
        return ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]

    def ready(_process):
        url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=1)
                return url
            except OSError:
                time.sleep(0.1)
        sys.exit("prometheus did not start")

    return Server(command, ready)


def measure(name, server, yardstick, body, span, queries, connections, path):
    start, end = span
    text = run([yardstick, "replay", body, "--url", f"{server.url}{path}", "--connections", connections,
                "--pid", server.process.pid, "--settle", 5])
    items, wall, rate = re.search(r"items (\d+) wall ([\d.]+) s rate (\d+)/s", text).groups()
    per_cpu, rss, peak = re.search(r"\((\d+) items per cpu-second\) rss (\d+) MiB peak (\d+) MiB", text).groups()
    failed = int(re.search(r"failed (\d+)", text).group(1))
    found = stored(name, server.url, start - 60, end + 60)
    if failed or found != int(items):
        sys.exit(f"{name}: sent {items}, refused {failed}, read back {found}: the figures do not count\n{text}")
    result = {"items": int(items), "read back": found, "items per second": int(rate),
              "items per CPU-second": int(per_cpu), "resident MiB": int(rss), "peak MiB": int(peak), "queries": {}}
    if queries:
        table = run([yardstick, "query", queries, "--url", server.url, "--set", f"s={start}", "--set", f"e={end}", "--runs", 5])
        for line in table.splitlines()[1:]:
            query, first, p50, _max, _bytes, status = line.split()
            result["queries"][query] = {"first ms": float(first), "p50 ms": float(p50), "status": int(status)}
    return result


def short(number):
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def write_page(results):
    out = ["# Benchmarks", "",
           "Written by `make bench` (scripts/bench.py), never by hand. Every load goes to a fresh `weir serve` with its",
           "default configuration; what was sent is read back and counted before a figure stands here. Each row names",
           "its commit. Rows of commit 653d8117f8 were measured while weir kept everything in memory: they hold no",
           "write-ahead log and no disk, say nothing of the stores on disk that came after, and cannot be set against",
           "a durable server's. Targets are what the design asks for once the stores are built. Rates per CPU-second",
           "are steadier than rates on the clock: the machine is shared.", ""]
    for name in LOADS:
        got = results.get(name)
        if not got:
            continue
        mine, peer = got["weir"], got.get("prometheus")
        out += [f"## {name}", "", f"`{got['command']}`", "",
                f"Commit {got['commit']}, {got['machine']}, {got['date']}. {mine['items']:,} items sent, {mine['read back']:,} read back.", ""]
        head = ["", "weir"] + (["Prometheus 2.42, one connection"] if peer else []) + ["target"]
        out += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in ("items per second", "items per CPU-second", "resident MiB", "peak MiB"):
            cells = [row, short(mine[row])] + ([short(peer[row])] if peer else []) + [TARGETS.get((name, row), "")]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
        if mine["queries"]:
            head = ["query, ms (first / median)", "weir"] + (["Prometheus 2.42"] if peer else []) + ["target"]
            out += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
            cell = lambda q: f"{q['first ms']:.1f} / {q['p50 ms']:.1f}" if q["status"] == 200 else f"status {q['status']}"
            for query, figures in mine["queries"].items():
                cells = [query, cell(figures)] + ([cell(peer["queries"][query])] if peer else []) + [TARGETS.get((name, query), "")]
                out.append("| " + " | ".join(cells) + " |")
            out.append("")
    out += ["How well causes are found: [benchmarks-causes.md](benchmarks-causes.md)."]
    PAGE.write_text("\n".join(out).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=ROOT / "target/release/weir", type=pathlib.Path)
    parser.add_argument("--yardstick", default=os.environ.get("YARDSTICK", ROOT / "../shared/yardstick"), type=pathlib.Path)
    parser.add_argument("--recording", default=ROOT / "../shared/datasets/node-exporter/scrapes.txt.zst", type=pathlib.Path)
    parser.add_argument("--only", default=",".join(LOADS))
    parser.add_argument("--peer", action="store_true", help="run Debian's Prometheus on the metrics loads too")
    args = parser.parse_args()
    work = ROOT / "target/bench"
    work.mkdir(parents=True, exist_ok=True)
    build = {**os.environ, "CARGO_TARGET_DIR": str(work / "yardstick")}
    run(["cargo", "build", "--release", "--locked", "--manifest-path", args.yardstick / "Cargo.toml"]
        if (args.yardstick / "Cargo.lock").exists() else
        ["cargo", "build", "--release", "--manifest-path", copy_sources(args.yardstick, work)], env=build)
    yardstick = work / "yardstick/release/yardstick"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    commit = run(["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"]).strip()
    for name in args.only.split(","):
        generator, path, connections, queries, lead = LOADS[name]
        now = int(time.time())
        start = now - lead
        body = work / f"{name}.bin"
        clock = ["--start-ms", f"{start}000"] if generator[0] == "gen-metrics" else ["--start-ns", f"{start}000000000"]
        source = ["--recording", args.recording] if generator[0] == "gen-metrics" else []
        run([yardstick, *generator, *source, "--out", body, *clock])
        queries = args.yardstick / "queries" / queries if queries else None
        got = {"command": f"yardstick {' '.join(generator)}; replay over {connections} connection(s) to {path}",
               "commit": commit, "machine": f"{os.cpu_count()} cores, {platform.machine()}",
               "date": time.strftime("%Y-%m-%d", time.gmtime())}
        servers = {"weir": (weir, connections)}
        if args.peer and generator[0] == "gen-metrics":
            servers["prometheus"] = (prometheus, 1)
        for who, (start_server, n) in servers.items():
            server = start_server(args.weir)
            try:
                got[who] = measure(name, server, yardstick, body, (start, now), queries, n, path)
            finally:
                server.stop()
            print(name, who, json.dumps(got[who]), flush=True)
        body.unlink()
        results[name] = got
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_page(results)


def copy_sources(folder, work):
    """A read-only checkout cannot hold the lock file that cargo wants to write."""
    target = work / "yardstick-src"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target / "Cargo.toml"


if __name__ == "__main__":
    main()
