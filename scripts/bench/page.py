"""docs/benchmarks.md from the figures."""

from loads import ITEM, LOADS, QUOTED, TARGETS

HEAD = """# Benchmarks

Written by `make bench` (scripts/bench), never by hand. Every load goes to a fresh `weir serve` with its
default configuration: acknowledged means synced to disk. What was sent is read back before a figure
stands here: all items in count, a thousand drawn ones by labels, time and content. Each table names its
commit. The machine is shared, so items per CPU-second are steadier
than items per second and times of queries are upper bounds. Prometheus ({prometheus}) ran on the same load
in the same run; the peers in the column after it were measured by the
design's authors with the same loads on another machine of the same size. Targets are the design's.
""".format(prometheus="Debian's 2.42")

ROWS = ("items per second", "items per CPU-second", "resident MiB", "peak MiB", "bytes per item, settled", "bytes per item, flushed")


def short(number):
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def timing(query):
    return f"{query['first ms']:.1f} / {query['p50 ms']:.1f}" if query["status"] == 200 else f"status {query['status']}"


def section(name, got):
    mine, peer = got["weir"], got.get("prometheus")
    quoted, figures = QUOTED.get(name, ("", {}))
    columns = ["weir"] + (["Prometheus 2.42, one connection"] if peer else []) + ([quoted] if quoted else []) + ["target"]

    def row(label, cell, where):
        cells = [label, cell(where(mine))]
        cells += [cell(where(peer)) if where(peer) is not None else ""] if peer else []
        cells += [figures.get(label, "")] if quoted else []
        return [*cells, TARGETS.get((name, label), "")]

    checked = f"{mine['items']:,} {ITEM[LOADS[name].signal]}s sent, {mine['read back']:,} counted, {mine['items compared']:,} compared one by one."
    out = [f"## {name}", "", f"`{got['command']}`", "", f"Commit {got['commit']}, {got['machine']}, {got['date']}. {checked}", ""]
    out += table(["", *columns], [row(r, short, lambda s, r=r: s.get(r)) for r in ROWS if r in mine])
    if mine["queries"]:
        queries = [row(q, timing, lambda s, q=q: s["queries"].get(q)) for q in mine["queries"]]
        out += table(["query, ms (first / median)", *columns], queries)
    return out


def page(results):
    out = [HEAD]
    for name in LOADS:
        if name in results:
            out += section(name, results[name])
    out += ["How well causes are found: [benchmarks-causes.md](benchmarks-causes.md)."]
    return "\n".join(out).rstrip() + "\n"
