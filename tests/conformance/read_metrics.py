"""Reads metrics by the parsers of prometheus_client: both formats say the same, and what --json says."""

import json
import pathlib
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

work = pathlib.Path(sys.argv[1])


def samples(families):
    found = {}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


plain = samples(plain_families((work / "scraped.txt").read_text()))
opened = samples(open_families((work / "open.txt").read_text()))
assert plain == opened, plain.items() ^ opened.items()
printed = samples(plain_families((work / "printed.txt").read_text()))
assert printed.keys() == plain.keys(), printed.keys() ^ plain.keys()

for one in json.loads((work / "metrics.json").read_text())["subscriptions"]:
    counters = one["counters"]

    def of(name, **labels):
        return plain["spec_notify_" + name, tuple(sorted({"subscription": one["id"], **labels}.items()))]

    assert of("dead_letters") == one["dead_letters"]
    assert of("pending_deliveries") == one["pending"]
    assert of("deliveries_accepted_total") == counters["accepted"] == 1
    assert of("attempts_total", outcome="delivered") == counters["delivered"]
    assert of("attempts_total", outcome="failed") == counters["failed"] == 1
    assert of("attempt_duration_seconds_count") == sum(counters["latencies"])
    assert of("attempt_duration_seconds_bucket", le="+Inf") == counters["delivered"] + counters["failed"]
    assert of("health", health=one["health"]) == 1
    print(f"{one['id']}: as --json says")
print(f"{len(plain)} samples, the same in both formats")
