"""Pruning by sensitivity: the table is that of pruned models, and what bears pruning is pruned."""

import json
import re

import keras
import numpy as np
import pytest

from tests.compress.abacus import IMAGES, net
from tests.surgery.drawn import randomize
from tfeffi import Budget, cost
from tfeffi.compress import by_name, prune
from tfeffi.compress.prune.masked import accuracy, agreement, fidelity
from tfeffi.errors import BadInput
from tfeffi.surgery import groups, reindex

LABELS = np.random.default_rng(1).integers(0, 5, len(IMAGES))


def outputs(model):
    return [keras.ops.convert_to_numpy(model(IMAGES, training=False))]


def planted():
    """net(), but channels 8 to 31 of layer c are never active: it bears losing three quarters."""
    model = net()
    kernel, bias = model.get_layer("c").get_weights()
    bias[8:] = -1e4
    model.get_layer("c").set_weights([kernel, bias])
    return model


def test_the_insensitive_layer_is_pruned_hardest():
    model = planted()
    small, report = prune.by_sensitivity(model, Budget(macs=0.75), data=IMAGES)
    assert {change.layer: change.after for change in report.changed} == {"c": 8}
    np.testing.assert_allclose(outputs(model)[0], outputs(small)[0], rtol=1e-4, atol=1e-4)
    by_layer = {tuple(row["layers"]): row for row in report.settings["sensitivity"]}
    assert by_layer["c",]["kept"] == [24, 16, 8, 4]
    assert by_layer["c",]["scores"][:3] == [1.0, 1.0, 1.0] and by_layer["c",]["scores"][3] < 1
    assert max(by_layer["a", "b"]["scores"]) < 1
    _, report = prune.by_sensitivity(model, Budget(macs=0.3), data=IMAGES)
    left = {change.layer: change.after / change.before for change in report.changed}
    assert left["c"] < left["a"] == left["b"]


@pytest.mark.parametrize("evaluate", ["fidelity", "agreement", "accuracy"])
def test_a_score_of_the_table_is_that_of_the_pruned_model(evaluate):
    """The oracle: the model really built without those channels, by another way."""
    model = net()
    _, report = prune.by_sensitivity(
        model, Budget(macs=0.6), data=(IMAGES, LABELS), evaluate=evaluate, importance="l2",
        ratios=(0.5, 0.25),
    )  # fmt: skip
    score = {"fidelity": fidelity, "agreement": agreement, "accuracy": accuracy}[evaluate]
    rows = report.settings["sensitivity"]
    assert [row["layers"] for row in rows] == [
        list(g.writers) for g in groups(model) if not g.pinned
    ]
    for row in rows:
        norms = sum(
            np.linalg.norm(
                model.get_layer(name).kernel.numpy().reshape(-1, row["channels"]), axis=0
            )
            for name in row["layers"]
        )
        if len(row["layers"]) > 1:
            continue  # how norms are reduced is not this test's business
        for size, found in zip(row["kept"], row["scores"], strict=True):
            index = np.sort(np.argsort(-norms)[:size])
            small, _ = reindex(model, dict.fromkeys(row["layers"], index))
            expected = score(outputs(model), outputs(small), LABELS)
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_what_is_left_of_a_budget_goes_back():
    """Every layer scores the same at its widths: each threshold shrinks all, far below the budget."""
    scores = iter((1.0, *(0.5, 0.2) * 2))
    _, report = prune.by_sensitivity(
        net(), Budget(macs=0.4), data=IMAGES, evaluate=lambda model: next(scores),
        importance="l2", ratios=(0.5, 0.25),
    )  # fmt: skip
    assert 0.35 * report.before.macs < report.after.macs <= 0.4 * report.before.macs
    widths = {change.layer: change.after for change in report.changed}
    assert widths == {"a": 16, "b": 16, "c": 8}  # all of 8 would do


def test_a_function_of_a_model_is_called_with_built_ones():
    seen = []

    def evaluate(model):
        seen.append(cost(model).macs)
        return seen[-1] / 1e6

    model = net()
    small, report = prune.by_sensitivity(
        model, Budget(macs=0.5), evaluate=evaluate, importance="l2", ratios=(0.5, 0.25)
    )
    assert seen[0] == cost(model).macs and all(macs < seen[0] for macs in seen[1:])
    assert len(seen) == 1 + sum(len(row["kept"]) for row in report.settings["sensitivity"])
    assert report.settings["evaluate"] == "evaluate"
    assert cost(small).macs <= 0.5 * seen[0] and report.method == "prune by sensitivity"
    json.dumps(report.to_json())


def test_all_the_way_down_every_group_has_its_least_width():
    model, arguments = net(), {"data": IMAGES, "importance": "l2", "ratios": (0.5, 0.25)}
    with pytest.raises(BadInput, match="cannot be met") as error:
        prune.by_sensitivity(model, Budget(macs=100), **arguments)
    least = int(re.search(r"still has ([\d,]+) macs", str(error.value))[1].replace(",", ""))
    _, report = prune.by_sensitivity(model, Budget(macs=least), **arguments)
    assert report.after.macs == least
    widths = {change.layer: change.after for change in report.changed}
    assert widths == {"a": 8, "b": 8, "c": 8}
    with pytest.raises(BadInput, match="cannot be met"):
        prune.by_sensitivity(model, Budget(macs=least - 1), **arguments)


def test_scores_by_hand():
    own, found = [np.array([[0.0, 1.0], [2.0, 5.0]])], [np.array([[0.0, 1.0], [2.0, 1.0]])]
    assert fidelity(own, own, None) == 1.0
    assert fidelity(own, found, None) == 1 - 16 / (1 + 1 + 4 + 4)
    assert agreement(own, found, None) == 0.5
    assert (
        accuracy(own, found, np.array([1, 1])) == 0.5 and accuracy(own, own, np.array([1, 1])) == 1
    )


def test_a_table_that_is_kept_is_not_measured_again(tmp_path):
    calls = []

    def evaluate(model):
        calls.append(1)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        return float(model.count_params())

    arguments = {
        "budget": Budget(macs=0.5), "evaluate": evaluate, "importance": "l2", "ratios": (0.5, 0.25),
        "cache": tmp_path / "table.json",
    }  # fmt: skip
    fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        prune.by_sensitivity(net(), **arguments)
    fails_at = 0
    _, report = prune.by_sensitivity(net(), **arguments)
    entries = sum(len(row["kept"]) for row in report.settings["sensitivity"])
    assert len(calls) == 4 + 1 + entries - 2  # the model itself always: it tells whose table it is
    calls.clear()
    again = prune.by_sensitivity(net(), **arguments)[1]
    assert len(calls) == 1 and again.settings == report.settings
    prune.by_sensitivity(net(seed=5), **arguments)
    assert len(calls) == 1 + 1 + entries
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(BadInput, match=r"table.json\" holds no table of sensitivities; remove"):
        prune.by_sensitivity(net(), **arguments)


def test_an_autoencoder_and_two_inputs():
    a, b = keras.Input((4,)), keras.Input((6,))
    x = keras.layers.Concatenate()([keras.layers.Dense(16)(a), keras.layers.Dense(24)(b)])
    model = keras.Model([a, b], keras.layers.Dense(7)(x))
    randomize(model, 0)
    random = np.random.default_rng(0)
    data = [random.random((30, 4), np.float32), random.random((30, 6), np.float32)]
    _, report = prune.by_sensitivity(model, Budget(macs=0.6), data=data, importance="l1")
    assert report.after.macs <= 0.6 * report.before.macs
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(x))
    _, report = prune.by_sensitivity(model, Budget(macs=0.6), data=random.random((9, 8, 8, 1)))
    assert report.after.macs == 0.5 * report.before.macs
    with pytest.raises(BadInput, match='"accuracy" is of classifiers; "fidelity" is of any model'):
        prune.by_sensitivity(
            model, Budget(macs=0.6), data=random.random((9, 8, 8, 1)), evaluate="accuracy"
        )


def test_latency_is_met_too(abacus):
    budget = Budget(latency=0.5, device=abacus)
    _, report = by_name.compress(planted(), "sensitivity", budget=budget, data=IMAGES)
    assert report.measured["ratio"] <= 0.5
    assert report.measured["ratio"] == pytest.approx(report.after.macs / report.before.macs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": None}, '"fidelity" is measured on data; give data'),
        ({"evaluate": "acuracy"}, 'no score "acuracy"; did you mean "accuracy"'),
        ({"evaluate": "accuracy"}, '"accuracy" needs labels; "agreement" needs none'),
        (
            {"evaluate": lambda model: float("nan")},
            "evaluate gives nan; it must give a finite score",
        ),
        ({"ratios": ()}, r"ratios=\(\); give shares"),
        ({"ratios": (0.5, 1.0)}, "between 0 and 1"),
        ({"budget": 0.5}, "budget=0.5; give"),
        ({"budget": Budget(macs=0.01)}, "cannot be met: with as little left as is allowed"),
        ({"data": IMAGES[:0]}, "the data is empty"),
    ],
)
def test_one_line_for_what_cannot_be(arguments, says):
    arguments = {"budget": Budget(macs=0.5), "importance": "l2", "data": IMAGES, **arguments}
    with pytest.raises(BadInput, match=rf"^prune: .*{says}") as error:
        prune.by_sensitivity(net(), **arguments)
    assert "\n" not in str(error.value)
