"""prune_to_tolerance on problems whose smallest network is known, and its arithmetic by brute force."""

import keras
import numpy as np
import pytest
from keras import layers

from tfeffi.compress import prune_to_tolerance, prune_to_widths
from tfeffi.compress.prune import elimination
from tfeffi.compress.prune.elimination import Units
from tfeffi.errors import BadInput

X, HELD_OUT = (np.random.default_rng(s).uniform(-1, 1, (2000, 2)).astype("float32") for s in (0, 1))


def network(units=40, outputs=1, activation="relu", seed=0, layer=False):
    random = np.random.default_rng(seed)
    x = inputs = keras.Input((2,))
    x = layers.Dense(units, activation=None if layer else activation, name="hidden")(x)
    x = layers.ReLU()(x) if layer else x
    model = keras.Model(inputs, layers.Dense(outputs, name="out")(x))
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape))
    return model


def relu(z):
    return np.maximum(z, 0)


# what to compute, and the units it takes at least
PROBLEMS = {
    "a sum": (lambda x: x.sum(1, keepdims=True), 1),
    "two sums": (lambda x: np.stack([x.sum(1), x[:, 0] - x[:, 1]], 1), 2),
    "twice the same": (lambda x: np.stack([x.sum(1), 3 * x.sum(1)], 1), 1),
    "an absolute value": (lambda x: np.abs(x[:, :1]), 2),
    "two hinges": (lambda x: relu(x).sum(1, keepdims=True), 2),
    "one hinge": (lambda x: relu(x[:, :1] + 0.2), 1),
    "the larger": (lambda x: x.max(1, keepdims=True), 2),
    "a constant": (lambda x: np.ones((len(x), 1)), 1),  # a layer has one unit at least
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_known_optimum_is_found(name):
    function, least = PROBLEMS[name]
    y = function(X)
    model = network(outputs=y.shape[1])
    if least == 2 and y.shape[1] == 1:  # kinks at the right places, among many others
        kernel, bias = model.get_layer("hidden").get_weights()
        kernel[:, :4] = [[1, 0, -1, 1], [0, -1, 0, -1]]
        bias[:4] = 0
        model.get_layer("hidden").set_weights([kernel, bias])
    small, report = prune_to_tolerance(model, "hidden", X, y, tolerance=1e-6, samples=500)
    assert small.get_layer("hidden").units == least
    assert np.mean((np.asarray(small(HELD_OUT), np.float64) - function(HELD_OUT)) ** 2) <= 1e-6
    assert [(c.before, c.after) for c in report.changed] == [(40, least)]
    assert report.settings["mse"] <= 1e-6 < report.settings["mse_before"]


def test_without_targets_the_layer_s_own_answer_is_kept():
    teacher = network(3, outputs=2, activation="tanh", seed=4)
    model = network(12, outputs=2, activation="tanh", seed=5)
    for name in ("hidden", "out"):
        for weight, source in zip(
            model.get_layer(name).weights, teacher.get_layer(name).weights, strict=True
        ):
            value = np.zeros(weight.shape) if name == "out" else weight.numpy()
            value[tuple(slice(n) for n in source.shape)] = source.numpy()
            weight.assign(value)
    small, _ = prune_to_tolerance(model, "hidden", X, tolerance=1e-8, samples=500)
    assert small.get_layer("hidden").units == 3
    np.testing.assert_allclose(small(HELD_OUT), teacher(HELD_OUT), atol=1e-4)


def test_inside_a_model_and_behind_a_relu_layer():
    inputs = keras.Input((2,))
    x = layers.Dense(5, activation="tanh")(inputs)
    x = layers.ReLU()(layers.Dense(20, name="hidden")(x))
    x = layers.Dense(3, activation="softmax", name="read")(layers.Dropout(0.5)(x))
    model = keras.Model(inputs, x)
    kernel, bias = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([kernel, bias + 10])  # always active: linear, of rank 3
    small, _ = prune_to_tolerance(model, "hidden", X, tolerance=1e-9)
    assert small.get_layer("hidden").units == 3
    np.testing.assert_allclose(small(HELD_OUT), model(HELD_OUT), atol=1e-4)


def test_the_same_seed_gives_the_same_network():
    y = relu(X).sum(1, keepdims=True) + X[:, :1]
    made = [
        prune_to_tolerance(network(12), "hidden", X, y, tolerance=1e-3, samples=300, seed=1)[0]
        for _ in range(2)
    ]
    for one, other in zip(made[0].weights, made[1].weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_tolerance_out_of_reach_is_said():
    y = np.sin(40 * X[:, :1])
    with pytest.raises(BadInput, match="tolerance=1e-08 is not reached by all 4 units"):
        prune_to_tolerance(network(4), "hidden", X, y, tolerance=1e-8, samples=200)


def test_a_higher_tolerance_needs_no_more_units():
    y = X[:, :1] ** 2
    units = [
        prune_to_tolerance(network(16), "hidden", X, y, tolerance=t, samples=200)[0]
        .get_layer("hidden").units
        for t in (1e-3, 1e-2, 0.2)
    ]  # fmt: skip
    assert units == sorted(units, reverse=True) and units[0] > units[-1] == 1


# ---------------------------------------------------------------- the arithmetic


def units(k=6, outputs=2, activation="relu", linear=True, seed=0):
    r = np.random.default_rng(seed)
    return Units(
        r.normal(size=(2, k)), r.normal(size=k), r.normal(size=(k, outputs)),
        np.zeros((2, outputs)), np.zeros(outputs), activation, linear,
    )  # fmt: skip


@pytest.mark.parametrize("linear", [False, True])
def test_the_cost_of_a_removal_is_what_removal_and_refit_cost(linear):
    x = X[:300].astype(float)
    y = np.stack([np.sin(3 * x[:, 0]), x[:, 0] * x[:, 1]], 1)
    fitted = elimination.refit(units(linear=linear), x, y)
    costs = elimination.removal_costs(fitted, x, y)
    for i in range(6):
        rest = elimination.refit(fitted.keep(np.delete(np.arange(6), i)), x, y)
        assert costs[i] == pytest.approx(rest.loss(x, y) - fitted.loss(x, y), rel=1e-4)


@pytest.mark.parametrize("activation", elimination.ACTIVATIONS)
def test_polishing_follows_the_gradient_of_every_activation(activation):
    z = np.linspace(-3, 3, 100)
    function, slope = elimination.ACTIVATIONS[activation]
    np.testing.assert_allclose(
        slope(z), (function(z + 1e-6) - function(z - 1e-6)) / 2e-6, atol=1e-5
    )
    np.testing.assert_allclose(
        function(z), getattr(keras.activations, activation)(z.astype("float32")), atol=1e-6
    )
    x = X[:200].astype(float)
    y = x[:, :1] * x[:, 1:]
    start = elimination.refit(units(4, 1, activation, False), x, y)
    assert elimination.polish(start, x, y).loss(x, y) <= start.loss(x, y)


def test_mirror_images_and_linear_parts_compute_the_same():
    x = X.astype(float)
    one = units()
    other = elimination.mirrored(one, np.array([True, False, True, True, False, False]))
    np.testing.assert_allclose(other(x), one(x), atol=1e-12)
    made = elimination.as_units(other, x)
    np.testing.assert_allclose(made(x), one(x), atol=1e-9)
    assert len(made) == len(one) + 2 and not made.a.any()


@pytest.mark.parametrize(
    ("layer", "arguments", "match"),
    [
        ("hiden", {}, "hidden"),
        ("out", {}, "must stay"),
        ("hidden", {"tolerance": 0}, "tolerance=0"),
        ("hidden", {"samples": 0}, "samples=0"),
        ("hidden", {"targets": np.ones((5, 1))}, "targets have shape"),
        ("hidden", {"data": X[:0]}, "empty"),
    ],
)
def test_bad_input_is_named(layer, arguments, match):
    arguments = {"data": X, "tolerance": 1e-3, **arguments}
    with pytest.raises(BadInput, match=match):
        prune_to_tolerance(network(4), layer, arguments.pop("data"), **arguments)


@pytest.mark.parametrize("kind", ["conv", "two readers", "no bias", "gelu", "softmax targets"])
def test_layers_it_cannot_take_are_refused(kind):
    inputs = keras.Input((4, 4, 1) if kind == "conv" else (2,))
    first = layers.Conv2D(3, 3, name="hidden") if kind == "conv" else layers.Dense(
        3, activation="gelu" if kind == "gelu" else "relu", use_bias=kind != "no bias", name="hidden"
    )  # fmt: skip
    x = first(inputs)
    last = "softmax" if kind == "softmax targets" else None
    outputs = [layers.Dense(2, activation=last)(x) for _ in range(1 + (kind == "two readers"))]
    model = keras.Model(inputs, outputs)
    targets = np.ones((len(X), 2)) if kind == "softmax targets" else None
    with pytest.raises(BadInput, match="prune_to_tolerance: "):
        prune_to_tolerance(model, "hidden", X, targets, tolerance=1e-3)


# ---------------------------------------------------------------- widths


def test_widths_are_met_by_the_most_active():
    model = network(6)
    model.get_layer("hidden").bias.assign([9.0, 1, 8, 2, 7, 3])
    small, report = prune_to_widths(model, {"hidden": 3}, data=X)
    np.testing.assert_array_equal(small.get_layer("hidden").bias, [9, 8, 7])
    assert report.settings["widths"] == {"hidden": 3}
    assert prune_to_widths(model, {"hidden": 9}, data=X)[0].get_layer("hidden").units == 6


@pytest.mark.parametrize(
    ("widths", "match"),
    [({"hiden": 1}, "hidden"), ({"out": 1}, "must stay"), ({"hidden": 0}, r'widths\["hidden"\]=0')],
)
def test_widths_that_cannot_be(widths, match):
    with pytest.raises(BadInput, match=match):
        prune_to_widths(network(6), widths, importance="l2")
