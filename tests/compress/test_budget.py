"""Budgets: what they allow, and what is not one."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi import Budget, cost, factorize, prune
from tfeffi.analysis.cost import Cost
from tfeffi.bench import Engine
from tfeffi.errors import BadInput

BEFORE = SimpleNamespace(macs=1001, params=100, file_bytes=400, latency_ms=3.0)


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(macs=0.5), 500),
        (Budget(macs=1.0), 1001),
        (Budget(macs=2), 2),
        (Budget(params=0.29), 29),  # 0.29 * 100 is 28.999... in floating point
        (Budget(bytes=49_248), 49_248),
        (Budget(macs=6e6), 6_000_000),
        (Budget(bytes=0.5), 200),  # of the exported file
        (Budget(latency=0.5), 1.5),  # a fraction, of the model's own
        (Budget(latency=1), 3.0),
        (Budget(latency_ms=0.5), 0.5),  # milliseconds, however few
        (Budget(latency_ms=1), 1),
    ],
)
def test_limit(budget, limit):
    assert budget.limit(BEFORE) == limit


@given(st.floats(1e-6, 1.0), st.integers(1, 10**9))
def test_a_fraction_allows_its_limit_and_no_more(fraction, macs):
    budget, before = Budget(macs=fraction), SimpleNamespace(macs=macs)
    limit = budget.limit(before)
    assert limit <= macs and abs(limit - fraction * macs) <= 1
    assert budget.allows(SimpleNamespace(macs=limit), before)
    assert not budget.allows(SimpleNamespace(macs=limit + 1), before)


def test_numpy_numbers_become_json():
    for value in (np.float32(0.5), np.float64(0.5), np.int64(60)):
        assert json.dumps(Budget(macs=value).to_json()) == f'{{"macs": {value.item()}}}'


def test_what_is_exported_is_told_where_it_is_not_float32():
    assert Budget(bytes=9_000).to_json() == {"bytes": 9_000}
    assert Budget(bytes=9_000, quantize="int8").to_json() == {"bytes": 9_000, "quantize": "int8"}
    small = Budget(latency_ms=0.05, quantize="int8")
    assert small.to_json() == {
        "latency_ms": 0.05, "device": "host", "threads": 1, "quantize": "int8",
    }  # fmt: skip
    assert Budget(**small.to_json()) == small


def test_what_measures_on_the_device_is_told_and_comes_back():
    where = {"device": "adb", "threads": 1, "benchmark_binary": "benchmark_model"}
    budget = Budget(latency=0.5, device="adb", benchmark_binary="benchmark_model")
    assert budget.to_json() == {"latency": 0.5, **where} and Budget(**budget.to_json()) == budget
    assert budget.engine == Engine(binary="benchmark_model")
    assert Budget(latency=0.5, device_python="python3.12").engine == Engine(python="python3.12")
    assert Budget(latency=0.5).engine == Engine()


def test_an_absolute_budget_needs_no_original():
    assert Budget(params=99).allows(SimpleNamespace(params=99))
    assert not Budget(params=99).allows(BEFORE)


def test_a_fraction_of_nothing_known_is_refused():
    with pytest.raises(BadInput, match=r"Budget\(macs=0.5\) is a fraction"):
        Budget(macs=0.5).allows(BEFORE)


def test_what_was_built_must_be_within_the_budget():
    budget = Budget(params=0.5)
    budget.require("prune", SimpleNamespace(params=50), BEFORE)
    says = (
        r"^prune: Budget\(params=0.5\) asks for 50 params, .* built has 51 params; give a smaller"
    )
    with pytest.raises(BadInput, match=says):
        budget.require("prune", SimpleNamespace(params=51), BEFORE)


@pytest.mark.parametrize("method", [prune, factorize])
def test_methods_count_the_model_they_built(method):
    """Plans are estimates: this budget finds the model dearer than what was planned."""
    layers = [keras.Input((32,)), keras.layers.Dense(64), keras.layers.Dense(32)]
    model = keras.Sequential(layers)
    before = cost(model)

    class Stern(Budget):
        def of(self, found):
            built = isinstance(found, Cost) and found != before
            return super().of(found) + 10**6 * built

    arguments = {"importance": "l2"} if method is prune else {}
    name = "prune" if method is prune else "factorize"
    with pytest.raises(
        BadInput, match=rf"^{name}: .* asks for 2,048 macs, .* has 1,00\d,\d+ macs;"
    ):
        method(model, budget=Stern(macs=0.5), **arguments)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"macs": 0.5, "params": 0.5},
        {"macs": 0},
        {"macs": 0.0},
        {"macs": -3},
        {"params": 1},
        {"bytes": float("nan")},
        {"bytes": float("inf")},
        {"macs": True},
        {"latency": 3.0},  # milliseconds?
        {"latency": 0},
        {"latency_ms": 0},
        {"latency_ms": float("inf")},
        {"latency": 0.5, "latency_ms": 3},
        {"latency": 0.5, "threads": 0},
        {"latency": 0.5, "threads": True},
        {"macs": 0.5, "device": "adb"},
        {"params": 0.5, "threads": 2},
        {"macs": "0.5"},
        {"macs": 0.5, "quantize": "int8"},
        {"macs": 0.5, "benchmark_binary": "benchmark_model"},
        {"bytes": 0.5, "device_python": "python3.12"},
        {"latency_ms": 0.05, "quantize": "int4"},
    ],
)
def test_what_is_no_budget(bad):
    with pytest.raises(BadInput, match=r"^budget: ") as caught:
        Budget(**bad)
    assert "\n" not in str(caught.value)
