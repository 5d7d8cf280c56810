"""Reports: the JSON holds everything, the table is for people."""

import json
from types import SimpleNamespace

from tfeffi.compress import Change, Report, Skipped


def report(**changes):
    before = SimpleNamespace(macs=12_000, params=300, bytes=1200)
    after = SimpleNamespace(macs=4_000, params=150, bytes=600)
    settings = {"importance": "l2"}
    given = {"changed": (Change("conv1", 32, 16),), "settings": settings, **changes}
    return Report("prune", before, after, **given)


def test_json_survives_a_file():
    made = report(skipped=(Skipped("logits", "is an output"),)).to_json()
    assert json.loads(json.dumps(made)) == {
        "method": "prune",
        "before": {"macs": 12_000, "params": 300, "bytes": 1200},
        "after": {"macs": 4_000, "params": 150, "bytes": 600},
        "changed": [{"layer": "conv1", "before": 32, "after": 16}],
        "skipped": [{"layer": "logits", "why": "is an output"}],
        "settings": {"importance": "l2"},
    }


def test_table_has_costs_ratios_changes_and_reasons():
    lines = report(skipped=(Skipped("logits", "is an output"),)).table().splitlines()
    words = [line.split() for line in lines]
    assert ["MACs", "12,000", "4,000", "3.00×"] in words
    assert ["bytes", "1,200", "600", "2.00×"] in words
    assert ["conv1", "32", "16"] in words
    assert ["logits", "is", "an", "output"] in words


def test_table_names_a_reason_once():
    skipped = tuple(Skipped(f"block{i}", "is 1×1") for i in range(40))
    text = report(skipped=skipped).table()
    assert text.count("is 1×1") == 1 and "block0 and 39 more" in text
    assert len(report(skipped=skipped).to_json()["skipped"]) == 40


def test_table_of_a_compression_that_did_nothing():
    assert "nothing changed" in report(changed=()).table()
