"""Asks the server for what was sent: all of it in count, a thousand items one by one."""

import base64
import json
import urllib.parse
import urllib.request

from bodies import drawn

N_ITEMS = 1000


def get(url, path, **params):
    query = urllib.parse.urlencode(params)
    with urllib.request.urlopen(f"{url}{path}?{query}", timeout=300) as reply:
        return json.load(reply)


def count(signal, url, start, end):
    """How many items the server gives back between two times in seconds."""
    if signal == "metrics":
        # Name by name: a function drops the name, and series that differ in nothing else are an error.
        total = 0
        for metric in get(url, "/api/v1/label/__name__/values", start=start, end=end)["data"]:
            # Other series are the server's own: those of the load all have an instance of 10.x.x.x.
            query = 'sum(count_over_time({__name__="%s",instance=~"10[.].+"}[%ds]))' % (metric, end - start)
            reply = get(url, "/api/v1/query", query=query, time=end)
            total += sum(int(float(series["value"][1])) for series in reply["data"]["result"])
        return total
    if signal == "logs":
        query = 'sum(count_over_time({cluster="prod-eu-1"}[%ds]))' % (end - start)
        reply = get(url, "/loki/api/v1/query", query=query, time=end)
        return int(float(reply["data"]["result"][0]["value"][1]))
    reply = get(url, "/api/metrics/query_range", q="{} | count_over_time()", start=start, end=end, step="60s")
    return int(sum(float(s.get("value", 0)) for series in reply["series"] for s in series["samples"]))


def items(signal, url, path):
    """How many of the drawn items came back as they were sent; a wrong one ends the run."""
    found = {"metrics": sample, "logs": line, "traces": span}[signal]
    wanted = drawn(path, N_ITEMS, signal)
    for item in wanted:
        answer = found(url, *item)
        if answer is not None:
            raise SystemExit(f"sent {item}, read back {answer}: the figures do not count")
    return len(wanted)


def sample(url, labels, time, value):
    # A label with an empty value is none.
    labels = {name: text for name, text in labels.items() if text}
    selector = ",".join(f"{name}={json.dumps(text)}" for name, text in labels.items() if name != "__name__")
    query = "%s{%s}[1ms]" % (labels["__name__"], selector)
    result = get(url, "/api/v1/query", query=query, time=f"{time / 1000:.3f}")["data"]["result"]
    if len(result) == 1:
        (at, text), = result[0]["values"]
        if result[0]["metric"] == labels and round(at * 1000) == time and float(text) == value:
            return None
    return result


def line(url, selector, time, text):
    reply = get(url, "/loki/api/v1/query_range", query=selector, start=time, end=time + 1, limit=5000)
    values = [value for stream in reply["data"]["result"] for value in stream["values"]]
    return None if [str(time), text] in [v[:2] for v in values] else values


def span(url, trace, own, name, start, end, attributes):
    reply = get(url, f"/api/traces/{trace}")
    batches = reply.get("batches") or reply.get("resourceSpans")
    for batch in batches:
        for scope in batch.get("scopeSpans", []):
            for got in scope["spans"]:
                if own in (got["spanId"], base64.b64decode(got["spanId"]).hex()):
                    texts = {a["key"]: str(next(iter(a["value"].values()))) for a in got.get("attributes", [])}
                    same = (got["name"], int(got["startTimeUnixNano"]), int(got["endTimeUnixNano"]), texts)
                    return None if same == (name, start, end, attributes) else got
    return f"{len(batches)} batches without the span"
