"""Budgets of what is shipped: the exported file holds them, by its size and by its measured time."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfeffi
from tests.compress.abacus import IMAGES, count, net
from tests.surgery.drawn import randomize
from tfeffi import Budget, cost, factorize, prune
from tfeffi.bench.table import LatencyTable
from tfeffi.compress.latency import PlanLatency, corners
from tfeffi.compress.meeting import first_within
from tfeffi.compress.prune import by_sensitivity, iteratively
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, apply


@pytest.mark.parametrize("share", [0.6, 0.3])  # the second with channels that come back
def test_on_a_device_that_counts_a_budget_of_time_is_one_of_macs(abacus, share):
    model = net()
    by_macs, counted = prune(model, Budget(macs=share), importance="l2")
    by_time, timed = prune(model, Budget(latency=share, device=abacus), importance="l2")
    assert timed.changed == counted.changed and timed.after == counted.after
    for one, other in zip(by_macs.weights, by_time.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    found = timed.measured
    assert found["ratio"] == pytest.approx(counted.after.macs / counted.before.macs)
    assert found["ratio"] <= share
    assert found["latency_ms_before"] == pytest.approx(counted.before.macs * 1e-6)
    ms = 1e-6 * share * counted.before.macs
    _, absolute = prune(model, Budget(latency_ms=ms, device=abacus), importance="l2")
    assert absolute.changed == counted.changed


def test_the_estimate_of_a_plan_is_the_sum_of_its_layers(abacus):
    """Exact for the whole model, for widths on the grid, and, where time is the work, between."""
    model, random = net(), np.random.default_rng(0)
    coupling, table = Coupling.of(model), LatencyTable(abacus)
    latency = PlanLatency(coupling, table)
    whole = coupling.keep(np.ones(coupling.classes.count, bool))
    assert latency.of(whole) == pytest.approx(table.of(model).ms)
    before = table.measured
    for share in (0.4, 0.8):
        kept = random.random(coupling.classes.count) < share
        for group in coupling.groups:
            kept[group.classes] |= group.pinned is not None
            kept[group.classes[0]] = True
        plan = coupling.keep(kept)
        small, _ = apply(coupling, plan)
        assert latency.of(plan) == pytest.approx(cost(small).macs * 1e-6)
    grid = table.measured - before
    assert 0 < grid < 40
    latency.of(plan)
    assert table.measured - before == grid


@given(st.lists(st.integers(1, 100), min_size=2, max_size=2), st.data())
def test_the_widths_around_are_on_a_grid_and_their_weights_add_up(whole, data):
    widths = tuple(data.draw(st.integers(1, n)) for n in whole)
    found = list(corners(tuple(whole), widths, True))
    assert sum(weight for weight, _ in found) == pytest.approx(1)
    for axis in (0, 1):
        mean = sum(weight * corner[axis] for weight, corner in found)
        assert mean == pytest.approx(widths[axis])
        assert all(1 <= corner[axis] <= whole[axis] for _, corner in found)
    assert widths != tuple(whole) or found == [(1.0, tuple(whole))]


class Stopwatch:
    """A row of candidates with true costs; estimates are off by a factor, measurements noisy."""

    def __init__(self, costs, off, noise=0.0, seed=0):
        self.costs, self.off, self.noise = sorted(costs, reverse=True), off, noise
        self.random, self.asked = np.random.default_rng(seed), []

    def estimate(self, step):
        return self.costs[step] * self.off

    def measure(self, step):
        self.asked.append(step)
        return self.costs[step] * (1 + self.noise * self.random.uniform(-1, 1))

    def search(self, limit):
        last = len(self.costs) - 1
        return first_within(self.estimate, self.measure, limit, 0, last)


@given(
    st.lists(st.floats(0.1, 100), min_size=1, max_size=60),
    st.floats(0.2, 5),
    st.floats(0.05, 120),
    st.floats(0, 0.1),
)
def test_what_is_taken_was_measured_to_be_within_the_limit(costs, off, limit, noise):
    clock = Stopwatch(costs, off, noise)
    step, measured = clock.search(limit)
    assert list(measured) == clock.asked and len(clock.asked) <= 17
    if step is None:
        assert measured[len(costs) - 1] > limit
    else:
        assert measured[step] <= limit
    if not noise:
        assert (step is None) == (min(costs) > limit)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=60, unique=True), st.data())
def test_without_noise_it_is_the_largest_or_within_the_tolerance(costs, data):
    limit = data.draw(st.sampled_from(costs))
    clock = Stopwatch(costs, 1.0)
    step, measured = clock.search(limit)
    assert clock.costs[step] >= 0.95 * limit
    assert len(measured) <= 2


@given(st.floats(0.2, 5), st.integers(20, 990))
def test_what_was_measured_corrects_the_estimate(off, limit):
    clock = Stopwatch(range(1, 1001), off)
    step, measured = clock.search(limit)
    assert 0.95 * limit <= clock.costs[step] <= limit and len(measured) <= 3


def test_more_than_can_be_met_says_what_can(abacus):
    model = net()
    with pytest.raises(BadInput, match=r"latency=0.001\) cannot be met: .* still takes 0\.0\d+ of"):
        prune(model, Budget(latency=0.001, device=abacus), importance="l2")
    with pytest.raises(BadInput, match=r"bytes=99\) cannot be met: .* still has [\d,]+ bytes"):
        prune(model, Budget(bytes=99), importance="l2")
    with pytest.raises(BadInput, match=r"factorize: .* be reached here is [\d.]+ ms; raise it"):
        factorize(model, budget=Budget(latency_ms=1e-9, device=abacus))
    with pytest.raises(BadInput, match=r"factorize: .* be reached here is [\d,]+ bytes; raise"):
        factorize(model, budget=Budget(bytes=99))


@pytest.mark.parametrize("budget", [0.5, 24_000])
def test_the_exported_file_is_within_its_budget_of_bytes(tmp_path, budget):
    model = net()
    before = tfeffi.export(model, tmp_path / "before.tflite").bytes
    limit = budget if budget > 1 else budget * before
    small, report = prune(model, Budget(bytes=budget), importance="l2", multiple_of=1)
    made = tfeffi.export(small, tmp_path / "small.tflite")
    small.save(tmp_path / "small.keras")
    again = tfeffi.export(tmp_path / "small.keras", tmp_path / "again.tflite")
    assert report.measured == {"file_bytes_before": before, "file_bytes_after": made.bytes}
    assert 0.9 * limit <= made.bytes <= limit and again.bytes <= limit
    assert made.bytes == pathlib.Path(made.path).stat().st_size
    assert f"{made.bytes:,}" in report.table()


def test_a_budget_of_time_or_bytes_in_int8(abacus, tmp_path):
    """Time in int8 is counted alike on the abacus: as many MACs; bytes are a file's."""
    model = keras.Sequential([keras.Input((64,)), *(keras.layers.Dense(96) for _ in range(3))])
    randomize(model, 0)
    ms = 0.5 * cost(model).macs * 1e-6
    budget = Budget(latency_ms=ms, device=abacus, quantize="int8")
    small, report = prune(model, budget, importance="l2")
    counted, _ = prune(model, Budget(macs=0.5), importance="l2")
    assert small.count_params() == counted.count_params()
    assert report.measured["latency_ms_after"] <= ms
    assert report.settings["budget"]["quantize"] == "int8"
    with pytest.raises(
        BadInput, match=r"latency_ms=1e-09\) cannot be met: .* still takes [\d.e-]+ ms"
    ):
        prune(model, dataclasses.replace(budget, latency_ms=1e-9), importance="l2")

    budget = Budget(bytes=0.6, quantize="int8")
    small, report = prune(model, budget, importance="l2", multiple_of=1)
    made = tfeffi.export(
        small, tmp_path / "m.tflite", quantize="int8", integer_io=True, min_agreement=0,
        calibration=np.random.default_rng(0).random((20, 64), np.float32), tolerance=9.0,
    )  # fmt: skip
    after, before = (report.measured[f"file_bytes_{when}"] for when in ("after", "before"))
    assert 0.55 * before <= after <= 0.6 * before
    assert made.bytes == pytest.approx(after, rel=0.02)


def test_factorization_meets_what_is_shipped(abacus, tmp_path):
    model = keras.Sequential([keras.Input((64,)), *(keras.layers.Dense(96) for _ in range(3))])
    randomize(model, 0)
    small, report = factorize(model, budget=Budget(bytes=0.6))
    made = tfeffi.export(small, tmp_path / "small.tflite")
    assert made.bytes == report.measured["file_bytes_after"]
    assert 0.5 < made.bytes / report.measured["file_bytes_before"] <= 0.6
    _, report = factorize(model, budget=Budget(latency=0.6, device=abacus))
    assert 0.5 < report.measured["ratio"] <= 0.6
    assert report.measured["ratio"] == pytest.approx(report.after.macs / report.before.macs)


def test_what_needs_no_pruning_is_left_and_is_not_called_faster(abacus):
    model = net()
    same, report = prune(model, Budget(latency=1, device=abacus), importance="l2")
    assert not report.changed and same.count_params() == model.count_params()
    assert "not faster (1.00 to 1.00 in single rounds): macs:" in report.table()
    faster = prune(model, Budget(latency=0.5, device=abacus), importance="l2")[1]
    assert "× as fast (" in faster.table() and "not faster" not in faster.table()


def test_a_second_search_measures_no_layer_again(abacus):
    """Only the start of the device and the whole candidates are; the times are in the cache."""
    model, budget = net(), Budget(latency=0.5, device=abacus)
    prune(model, budget, importance="l2")
    first = count(abacus)
    prune(model, budget, importance="l2")
    again = count(abacus) - first
    assert again == 1 + 2 * 5 * 1 < first  # two files, five rounds, one candidate


SMALL = net()


@settings(max_examples=4)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.sampled_from(["macs", "params"]))
def test_a_smaller_budget_leaves_no_more(one, other, kind):
    low, high = sorted((one, other))
    model = SMALL
    results = [
        method(model, Budget(**{kind: share}))[1]
        for method in (
            lambda m, b: prune(m, b, importance="l2"),
            lambda m, b: iteratively(m, b, steps=2, importance="l2"),
            lambda m, b: by_sensitivity(m, b, data=IMAGES, importance="l2", ratios=(0.5, 0.1)),
        )
        for share in (low, high)
    ]
    for small, large in zip(results[::2], results[1::2], strict=True):
        assert getattr(small.after, kind) <= low * getattr(small.before, kind)
        assert getattr(large.after, kind) <= high * getattr(large.before, kind)
        assert getattr(small.after, kind) <= getattr(large.after, kind)
        for change in (*small.changed, *large.changed):
            assert change.layer != "logits" and change.after >= 1
            assert change.after % 8 == 0 or change.after in (4, 2, 1)


def test_on_this_machine_only_the_form_is_sure(monkeypatch, tmp_path):
    """Times are not asserted, this may be a busy machine; that they were measured is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512), keras.layers.Dense(9)])
    _, report = prune(model, Budget(latency=0.9), importance="l2", multiple_of=128)
    found = report.measured
    assert found["device"] == "host" and found["threads"] == 1 and found["cpu"]
    assert 0 < found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    assert found["ratio"] <= 0.9 and found["latency_ms_after"] > 0
    assert report.settings["budget"] == {"latency": 0.9, "device": "host", "threads": 1}
