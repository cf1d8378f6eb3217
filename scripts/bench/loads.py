"""The loads, what DESIGN §12 asks of them, and what it read off their peers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    generator: tuple  # arguments of the yardstick
    path: str
    connections: int
    queries: str | None  # a file of ../shared/yardstick/queries
    lead: int  # seconds between the first item's time and the run

    @property
    def signal(self):
        return self.generator[0].removeprefix("gen-")


WRITE, PUSH, OTLP = "/api/v1/write", "/loki/api/v1/push", "/v1/traces"
LONG = ("gen-metrics", "--instances", "40", "--scrapes", "1400", "--batch", "10000")
TRACES = ("gen-traces", "--traces", "100000", "--step-ns", "30000000")

LOADS = {
    "base": Load(("gen-metrics", "--instances", "200", "--scrapes", "120"), WRITE, 4, "metrics-base.tsv", 1920),
    "base, remote write 2.0": Load(("gen-metrics", "--instances", "200", "--scrapes", "120", "--v2"), WRITE, 4, None, 1920),
    "long": Load(LONG, WRITE, 1, "metrics-long.tsv", 21300),
    "long, out of order": Load(LONG, WRITE, 4, None, 21300),
    "wide": Load(("gen-metrics", "--instances", "2000", "--scrapes", "6", "--batch", "10000"), WRITE, 4, None, 200),
    "logs": Load(("gen-logs", "--lines", "4000000", "--step-ns", "800000"), PUSH, 4, "logs-loki.tsv", 3600),
    "logs, wild": Load(("gen-logs", "--lines", "1000000", "--step-ns", "3000000", "--wild"), PUSH, 4, None, 3600),
    "traces": Load(TRACES, OTLP, 4, "traces-tempo.tsv", 3600),
    "traces, scattered": Load((*TRACES, "--scatter", "--spread-s", "5"), OTLP, 4, None, 3600),
}

# What one item is called on the page.
ITEM = {"metrics": "sample", "logs": "line", "traces": "span"}

# Rows of the page with what DESIGN asks for in the end.
TARGETS = {
    ("base", "items per second"): "3.0M",
    ("base", "items per CPU-second"): "3.0M",
    ("base", "resident MiB"): "250",
    ("base", "bytes per item, settled"): "1.4",
    ("base, remote write 2.0", "items per CPU-second"): "3.2M",
    ("long", "items per CPU-second"): "4.0M",
    ("long", "bytes per item, settled"): "0.75",
    ("long, out of order", "items per CPU-second"): "half of long",
    ("wide", "items per CPU-second"): "600k",
    ("wide", "resident MiB"): "700",
    ("logs", "items per CPU-second"): "500k",
    ("logs", "bytes per item, settled"): "33",
    ("logs", "resident MiB"): "300",
    ("traces", "items per CPU-second"): "350k",
    ("traces", "bytes per item, settled"): "30",
    ("traces", "peak MiB"): "500",
    ("traces, scattered", "items per CPU-second"): "250k",
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

# Read off by the designers on a machine of the same size, not in the run that the page shows: the
# name of the peer and its figure by row.
QUOTED = {
    "base": ("VictoriaMetrics 1.150", {
        "items per second": "1.49M", "items per CPU-second": "736k", "resident MiB": "371",
        "bytes per item, settled": "2.2", "rate_sum_all": "25", "rate_avg_by_instance": "63", "instant_count_all": "933"}),
    "long": ("VictoriaMetrics 1.150", {
        "items per CPU-second": "1.11M", "bytes per item, settled": "1.12", "rate_sum_5h": "8.8", "max_by_instance": "8.2"}),
    "wide": ("VictoriaMetrics 1.150", {"items per CPU-second": "152k", "resident MiB": "1109"}),
    "logs": ("VictoriaLogs 1.26", {
        "items per CPU-second": "131k", "bytes per item, settled": "59.4", "resident MiB": "410", "needle": "12",
        "rate_by_app": "583", "json_filter": "229", "p99_unwrap": "408"}),
    "traces": ("Tempo 3.0", {
        "items per CPU-second": "35k", "bytes per item, settled": "55.7", "peak MiB": "3152", "by_id": "23",
        "errors": "16", "attr_eq": "72", "structural": "115", "rate_by_service": "38"}),
}
