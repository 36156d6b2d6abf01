"""The metrics as people read them.

`python -m lastcall.metrics_reference > docs/reference/metrics.md` writes the page anew.
"""

import sys

from lastcall.metrics import METRICS, OUTCOMES

_PAGE = """\
# Metrics

<!-- Generated: python -m lastcall.metrics_reference > docs/reference/metrics.md -->

`GET /metrics`, in the text format of Prometheus. Whichever worker is asked answers for all workers
of this server on this host; each series has the label `worker`, its pid. The others' figures are up
to a second old. A worker that has left keeps its counters for an hour, so that what it did to its
clients can be read after it; one that was killed vanishes. Add up what you ask for:

```
sum(rate(lastcall_deliveries_total[1m]))
sum by (outcome) (increase(lastcall_drain_clients_total[10m]))
```

The outcomes of `lastcall_drain_clients_total` are {outcomes};
who was cut is also among those released or closed. The reasons for all this:
[metrics](../decisions/metrics.md).

| Metric | Kind | Label | What it says |
|---|---|---|---|
"""


def reference() -> str:
    """The reference page, from the declarations alone."""
    outcomes = ", ".join(f"`{outcome}`" for outcome in OUTCOMES)
    lines = [_PAGE.format(outcomes=outcomes)]
    for metric in METRICS:
        label = f"`{metric.label}`" if metric.label else ""
        lines.append(f"| `lastcall_{metric.name}` | {metric.kind} | {label} | {metric.help} |\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
