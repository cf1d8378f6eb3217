"""Pushes, adds to and deletes a group, as a nightly job does: push.py URL push|add|delete."""

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import delete_from_gateway, push_to_gateway, pushadd_to_gateway

url, action = sys.argv[1:]
# The slash travels as base64.
group = {"table": "shop/orders"}
registry = CollectorRegistry()
if action == "push":
    Gauge("job_last_success_unixtime", "When it went well.", registry=registry).set(1234.5)
    Counter("job_rows", "Rows written.", ["kind"], registry=registry).labels("new").inc(7)
    Histogram("job_took_seconds", "How long.", buckets=[1, 10], registry=registry).observe(3)
    push_to_gateway(url, job="nightly", registry=registry, grouping_key=group)
elif action == "add":
    Counter("job_rows", "Rows written.", ["kind"], registry=registry).labels("late").inc(2)
    pushadd_to_gateway(url, job="nightly", registry=registry, grouping_key=group)
else:
    delete_from_gateway(url, job="nightly", grouping_key=group)
