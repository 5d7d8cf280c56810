"""What results/blocks_cifar10.json shows of blocks at equal multiply-adds."""

import math
import pathlib

from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "blocks_cifar10.json"


def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def gap(one, other):
    """The difference of two mean accuracies in its standard errors."""
    variances = one["accuracy_std"] ** 2 / one["n"] + other["accuracy_std"] ** 2 / other["n"]
    return (one["accuracy_mean"] - other["accuracy_mean"]) / math.sqrt(variances)


def test_all_cost_the_same_and_have_five_seeds():
    for row in rows().values():
        assert row["n"] >= 5 and len(row["accuracies"]) == row["n"]
        assert abs(row["macs"] - 2_000_000) <= 0.03 * 2_000_000


def test_shortcuts_help_beyond_the_spread():
    found = rows()
    for block in ("basic", "bottleneck"):
        assert gap(found[block], found[f"{block}_plain"]) > 2


def test_bottlenecks_are_no_better_than_basic_blocks_at_this_size():
    found = rows()
    assert gap(found["basic"], found["bottleneck"]) > 2
    assert found["bottleneck"]["activation_bytes"] > found["basic"]["activation_bytes"]


def test_latencies_are_of_one_run_where_there_are_any():
    timed = [row for row in rows().values() if "ratio" in row]
    assert len(timed) in (0, len(rows()))
    assert all(row["ratio_to"] == "basic" and row["p50_ms"] > 0 for row in timed)


def test_a_shortcut_does_not_pay_around_an_inception_block():
    found = rows()
    assert gap(found["inception"], found["inception_residual"]) > 2
