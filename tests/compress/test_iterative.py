"""Pruning in steps: each budget is of the original, the last one is met, tuning happens between."""

import functools
import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compress.abacus import IMAGES, net
from tfeffi import Budget, cost, train
from tfeffi.compress import by_name, prune
from tfeffi.compress.prune.iterative import SCHEDULES, share_of
from tfeffi.data import Images
from tfeffi.errors import BadInput


def images(count=64):
    random = np.random.default_rng(0)
    return Images(
        images=random.integers(0, 256, (count, 8, 8, 3)).astype("uint8"),
        labels=random.integers(0, 5, count),
        num_classes=5,
        class_names=tuple("abcde"),
        name="noise",
        split="train",
    )


@given(st.integers(1, 9), st.floats(1e-3, 2.0), st.sampled_from(SCHEDULES))
def test_shares_fall_to_the_final_one(steps, final, schedule):
    shares = [share_of(i, steps, final, schedule) for i in range(1, steps + 1)]
    assert shares[-1] == min(1, final) and shares[0] <= 1
    assert all(a >= b for a, b in itertools.pairwise(shares))
    left = [1.0, *shares]
    steps_down = (
        [a - b for a, b in itertools.pairwise(left)]
        if schedule == "linear"
        else [a / b for a, b in itertools.pairwise(left)]
    )
    assert steps_down == pytest.approx([steps_down[0]] * steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("budget", [Budget(macs=0.3), Budget(params=4000)], ids=str)
def test_each_step_is_within_its_own_budget_and_the_last_in_the_whole(budget, schedule):
    model = net()
    small, report = prune.iteratively(
        model, budget, steps=3, schedule=schedule, importance="l2", multiple_of=1
    )
    assert budget.allows(cost(small), cost(model))
    assert report.before == cost(model) and report.after == cost(small)
    rows, own = report.settings["steps"], budget.of(cost(model))
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert 0.8 * row["share"] * own <= row[budget.kind] <= row["share"] * own
    assert report.table().endswith(report.note) and len(report.note.splitlines()) == 3
    assert rows[-1]["macs"] == report.after.macs
    widths = {change.layer: change.after for change in report.changed}
    assert all(small.get_layer(name).filters == n for name, n in widths.items())


def test_one_step_without_tuning_is_pruning():
    model = net()
    once, _ = prune(model, Budget(macs=0.4), importance="l2")
    steps, _ = prune.iteratively(model, Budget(macs=0.4), steps=1, importance="l2")
    for one, other in zip(once.weights, steps.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_of_what_is_measured_are_of_the_original(abacus):
    model = net()
    _, report = prune.iteratively(
        model, Budget(latency=0.4, device=abacus), steps=2, importance="l2"
    )
    first, last = report.settings["steps"]
    assert first["ratio"] <= 0.7 and last["ratio"] == report.measured["ratio"] <= 0.4
    assert last["ratio"] == pytest.approx(report.after.macs / cost(model).macs)
    limit = 0.5e-6 * cost(model).macs
    _, report = prune.iteratively(
        model, Budget(latency_ms=limit, device=abacus), steps=2, importance="l2"
    )
    assert report.settings["steps"][0]["share"] == pytest.approx(0.75)
    assert report.measured["latency_ms_after"] <= limit


def test_training_is_what_happens_between():
    """`train.fit` is taken as it is; what a step leaves is what the next one judges."""
    seen, data = [], images()
    settings = train.Settings(epochs=1, batch_size=32, learning_rate=0.01)

    fit = functools.partial(train.fit, train=data, settings=settings, verbose=False)

    def tune(model):
        seen.append(model)
        return fit(model)

    small, _ = prune.iteratively(
        net(), Budget(macs=0.4), steps=2, finetune=tune, importance="activations", data=data
    )
    assert len(seen) == 2 and seen[0].count_params() > seen[1].count_params()
    assert small.count_params() == seen[1].count_params()
    kernels = [m.get_layer("c").kernel.numpy() for m in (small, seen[1])]
    assert np.abs(kernels[0] - kernels[1]).max() > 0


def test_by_name():
    given = {"budget": Budget(macs=0.4), "importance": "l2"}
    _, report = by_name.compress(net(), "prune", iterations=2, schedule="geometric", **given)
    assert report.method == "prune iteratively" and report.settings["schedule"] == "geometric"
    _, report = by_name.compress(net(), "prune", iterations=1, **given)
    assert report.method == "prune"


def other(model):
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"steps": 0}, r"0 steps; give a whole number"),
        ({"steps": True}, r"True steps"),
        ({"schedule": "cubic"}, r'no schedule "cubic"; '),
        ({"budget": 0.5}, r"budget=0.5; give tfeffi.Budget"),
        ({"threshold": 0}, r"takes no threshold"),
        ({"finetune": "fit"}, r"finetune='fit' is not a function"),
        ({"finetune": lambda model: None}, r"finetune must give back a model"),
        ({"finetune": other}, r"it may only train"),
        ({"budget": Budget(macs=1e-6)}, r"cannot be met"),
    ],
)
def test_one_line_for_what_cannot_be(arguments, says):
    arguments = {"budget": Budget(macs=0.5), "importance": "l2", "data": IMAGES, **arguments}
    with pytest.raises(BadInput, match=rf"^prune: .*{says}") as error:
        prune.iteratively(net(), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"iterations": 3}, "iterations=3 need a budget"),
        ({"schedule": "linear", "budget": Budget(macs=0.5)}, "schedule is of pruning in steps"),
    ],
)
def test_one_line_by_name(arguments, says):
    with pytest.raises(BadInput, match=says):
        by_name.compress(net(), "prune", importance="l2", **arguments)
