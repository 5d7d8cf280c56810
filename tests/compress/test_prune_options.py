"""What prune makes of scores: every importance with every normalization, scope, cost, and its report."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, randomize
from tfeffi.analysis.cost import cost
from tfeffi.compress import Budget, prune
from tfeffi.compress.prune import importance
from tfeffi.compress.prune.scores import NORMALIZATIONS, REDUCTIONS, Scores
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((24, 6, 6, 3), np.float32)
DATA = IMAGES, RANDOM.integers(0, 4, 24)


def net():
    """conv a, conv b added to it, both of 8; conv c of 12; dense 4."""
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="a")(x)
    x = a = layers.ReLU()(layers.BatchNormalization(name="bn_a")(x))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="b")(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization(name="bn_b")(x), a]))
    x = layers.Conv2D(12, 3, strides=2, use_bias=False, name="c")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn_c")(x))
    x = layers.Dense(4, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    randomize(model, 4)
    for name in ("bn_a", "bn_b", "bn_c"):  # the statistics of what comes in: no channel is dead
        into = keras.Model(inputs, model.get_layer(name).input)
        values = np.array(into(IMAGES))
        gamma, beta, *_ = model.get_layer(name).get_weights()
        statistics = values.mean((0, 1, 2)), values.var((0, 1, 2))
        model.get_layer(name).set_weights([np.abs(gamma), beta, *statistics])
    return model


@pytest.fixture(scope="module")
def model():
    return net()


NAMES = list(importance.FUNCTIONS)


def takes(name, option):
    return option in inspect.signature(importance.FUNCTIONS[name]).parameters


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", [name for name in NAMES if takes(name, "normalization")])
def test_every_importance_with_every_normalization(model, name, normalization):
    reduction = list(REDUCTIONS)[list(NORMALIZATIONS).index(normalization) % len(REDUCTIONS)]
    small, report = prune(
        model, Budget(macs=0.5), importance=name, data=DATA, multiple_of=2,
        reduction=reduction, normalization=normalization,
    )  # fmt: skip
    assert report.after == cost(small) and 0 < report.after.macs <= 0.5 * report.before.macs
    assert small.output_shape == model.output_shape and np.isfinite(small(IMAGES)).all()
    assert all(change.after >= 1 for change in report.changed)
    assert report.settings["normalization"] == normalization
    assert report.settings["reduction"] == reduction
    json.dumps(report.to_json())


PLANTED = {"a": [1, 6], "b": [1, 6], "c": [0, 5, 7]}
COUNTS = ("activations", "apoz", "outliers")


def plant(model, factor=1e-3, *, counted):
    """Scales channels down, where they are made and where they are read; for counts, shifts them."""
    for name, channels in PLANTED.items():
        kernel = np.array(model.get_layer(name).kernel)
        kernel[..., channels] *= factor
        model.get_layer(name).kernel.assign(kernel)
        gamma, beta, mean, variance = model.get_layer(f"bn_{name}").get_weights()
        gamma[channels] *= factor
        beta[channels] = -1.0 if counted else beta[channels] * factor
        model.get_layer(f"bn_{name}").set_weights([gamma, beta, mean, variance])
    for reader, writer in (("b", "a"), ("c", "b"), ("logits", "c")):
        kernel = np.array(model.get_layer(reader).kernel)
        kernel[..., PLANTED[writer], :] *= factor
        model.get_layer(reader).kernel.assign(kernel)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_channels_scaled_down_go_first(name):
    model = net()
    plant(model, counted=name in COUNTS)
    kernel = np.array(model.get_layer("logits").kernel)
    coupling = Coupling.of(model)
    rank = importance.score(name, coupling, DATA).rank
    for layer in ("a", "c"):
        order = np.argsort(rank[coupling.writers[layer]], kind="stable")
        assert set(order[: len(PLANTED[layer])]) == set(PLANTED[layer])
    small, _ = prune(
        model, Budget(macs=0.45), importance=name, data=DATA, multiple_of=1, scope="layer"
    )  # a third of every layer goes
    left = small.get_layer("logits").get_weights()[0]
    assert len(left) <= 9 and not any((row == left).all(1).any() for row in kernel[PLANTED["c"]])


def test_by_layer_every_group_loses_the_same_share(model):
    for name in ("l2", "random"):
        _, report = prune(
            model, Budget(macs=0.4), importance=name, scope="layer", multiple_of=1, seed=5
        )
        shares = {c.layer: c.after / c.before for c in report.changed}
        assert set(shares) == {"a", "b", "c"} and shares["a"] == shares["b"]
        assert abs(shares["a"] - shares["c"]) <= 1 / 8  # one channel
        assert report.settings["scope"] == "layer"


def test_globally_a_layer_of_small_weights_loses_more():
    model = net()
    for name in "ab":
        model.get_layer(name).kernel.assign(model.get_layer(name).kernel * 0.01)
    arguments = dict(importance="l2", normalization="none", multiple_of=1)
    _, report = prune(model, Budget(macs=0.6), **arguments)
    assert {c.layer for c in report.changed} == {"a", "b"}
    _, report = prune(model, Budget(macs=0.6), **arguments, scope="layer")
    assert {c.layer for c in report.changed} == {"a", "b", "c"}


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_scores_over_what_a_channel_costs(model, kind):
    """Two channels score 1 and 2; which goes first depends on what they cost."""
    coupling = Coupling.of(model)
    first = {layer: coupling.writers[layer][0] for layer in "ac"}
    price = {}
    for layer, one in first.items():

        def alone(coupling, data, one=one):
            values = np.ones(coupling.classes.count)
            values[one] = 0
            return Scores(values, values, values)

        _, report = prune(model, importance=alone, threshold=0, multiple_of=1)
        price[layer] = getattr(report.before, kind) - getattr(report.after, kind)
    assert price["a"] != price["c"]

    def values_of(a, c):
        def both(coupling, data):
            values = np.full(coupling.classes.count, 1e9)
            values[first["a"]], values[first["c"]] = a, c
            return Scores(values, values, np.zeros_like(values))

        return both

    for more in (0.99, 1.01):  # a's score a little below or above what its price makes fair
        score = values_of(price["a"] * more, price["c"])
        _, report = prune(model, Budget(macs=0.9999), importance=score, per=kind, multiple_of=1)
        changed = {c.layer for c in report.changed}
        assert changed == ({"a", "b"} if more < 1 else {"c"})
        assert report.settings["per"] == kind


def test_settings_tell_what_was_chosen(model):
    def mine(coupling, data, *, reduction="mean"):
        return importance.l2(coupling, reduction=reduction)

    _, report = prune(model, Budget(macs=0.8), importance=mine, reduction="max")
    assert report.settings["importance"] == "mine" and report.settings["reduction"] == "max"
    _, report = prune(
        model, Budget(macs=0.8), importance="fisher", data=DATA,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None),
    )  # fmt: skip
    assert report.settings["loss"] == "SparseCategoricalCrossentropy"
    assert report.settings["reduction"] is None and report.settings["normalization"] == "none"
    assert report.settings["seed"] == 0 and report.settings["inexact"] is False
    json.dumps(report.to_json())


def test_the_seed_decides_what_random_takes(model):
    def widths(seed):
        arguments = dict(importance="random", multiple_of=1, seed=seed)
        small, _ = prune(model, Budget(macs=0.5), **arguments)
        return [small.get_layer(name).get_weights()[0].tolist() for name in "ac"]

    assert widths(1) == widths(1) != widths(2)


def test_the_report_tells_of_ties(model):
    def same(coupling, data):
        return Scores(*np.ones((3, coupling.classes.count)))

    _, report = prune(model, Budget(macs=0.7), importance=same, multiple_of=1)
    assert report.note.startswith('Ties: channels of "a" went while others that score the same')
    assert report.note in report.table() and report.to_json()["note"] == report.note
    _, report = prune(model, Budget(macs=0.7), importance="l2", multiple_of=1)
    assert not report.note


def test_the_report_tells_of_channels_without_a_score():
    inputs = keras.Input((6, 6, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, name="a")(inputs))
    x = layers.Conv2D(8, 3, name="b")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    randomize(model, 1)
    _, report = prune(model, Budget(macs=0.8), importance="bn_scale", multiple_of=1)
    assert [c.layer for c in report.changed] == ["a"]
    says = 'importance "bn_scale" says nothing of its channels'
    assert [s.layer for s in report.skipped if s.why == says] == ["b"]

    def some(coupling, data):
        values = np.ones(coupling.classes.count)
        values[coupling.writers["b"][:3]] = np.inf
        return Scores(values, values, values)

    small, report = prune(model, importance=some, threshold=1, multiple_of=1)
    assert small.get_layer("b").filters == 3
    assert 'Some channels of "b" have no score; they stay.' in report.note


def normalized():
    inputs = keras.Input((12,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(16, name="a")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="out")(x))


def test_inexact_surgery_is_named():
    with pytest.raises(BadInput, match=r'may go; "a": .*"norm".* over channels; "out": '):
        prune(normalized(), Budget(macs=0.5), importance="l2")
    small, report = prune(normalized(), Budget(macs=0.5), importance="l2", inexact=True)
    assert small.get_layer("a").units == 8
    assert "norm" in report.settings["inexact"] and '"norm"' in report.note
    _, report = prune(net(), Budget(macs=0.5), importance="l2", inexact=True)
    assert report.settings["inexact"] == {} and not report.note


def test_an_inexact_residual_net_within_budget(model):
    small, _ = prune(model, Budget(macs=0.5), importance="l2", inexact=True)
    exact, _ = prune(model, Budget(macs=0.5), importance="l2")
    assert gap(exact(IMAGES), small(IMAGES)) == 0


def only_outputs():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="logits")])


def subclassed():
    class Mine(keras.Model):
        def call(self, x):
            return x

    return Mine()


def nan_in_batch_normalization():
    model = net()
    gamma, *rest = model.get_layer("bn_c").get_weights()
    gamma[3] = np.inf
    model.get_layer("bn_c").set_weights([gamma, *rest])
    return model


def overflowing():
    model = net()
    model.get_layer("c").kernel.assign(np.full((3, 3, 8, 12), 1e38))
    return model


def nothing(coupling, data):
    return Scores(*np.full((3, coupling.classes.count), np.nan))


HALF = dict(budget=Budget(macs=0.5))
BAD = [
    (net, dict(HALF, importance="l2", scope="layers"), 'no scope "layers"; did you mean "layer"'),
    (net, dict(HALF, importance="l2", per="bytes"), 'per="bytes" is no cost; known: macs, params'),
    (net, dict(HALF, importance="l2", reduction="mena"), 'reduction "mena"; did you mean "mean"'),
    (net, dict(HALF, importance="l2", normalization="lmap"), 'normalization "lmap"; did you mean'),
    (net, dict(HALF, importance="l2", loss="self"), 'importance "l2" has no loss; of these'),
    (net, dict(HALF, importance="random", normalization="l2"), '"random" has no normalization'),
    (net, dict(HALF, importance="l2", normalization="gaussian", per="macs"), "some are negative"),
    (net, dict(HALF, importance="fisher"), '"fisher" is measured on data; give data='),
    (net, dict(HALF, importance="fisher", data=IMAGES), "needs labels"),
    (net, dict(HALF, importance="outliers"), '"outliers" is measured on data'),
    (net, dict(budget=Budget(macs=1e-6), importance="l2"), r"cannot be met: .* still has [\d,]+"),
    (net, dict(HALF, importance="l2", ignore=["a", "c"]), 'may go; "a": ignored; "b": coupled to'),
    (only_outputs, dict(HALF, importance="l2"), '"logits": it is an output of the model'),
    (subclassed, dict(HALF, importance="l2"), "is subclassed"),
    (lambda: keras.Sequential([layers.Dense(3)]), dict(HALF, importance="l2"), "is not built"),
    (nan_in_batch_normalization, dict(HALF, importance="l2"), 'gamma of layer "bn_c" holds'),
    (overflowing, dict(HALF, data=DATA), 'what layer "logits" reads is not finite on this data'),
    (overflowing, dict(HALF, importance="taylor", data=DATA), "gradients of what layer .* not fin"),
    (net, dict(HALF, importance=nothing), 'importance of channels of "a" is not a number'),
]


@pytest.mark.parametrize(("build", "arguments", "says"), BAD, ids=[says for *_, says in BAD])
def test_bad_input(build, arguments, says):
    with pytest.raises(BadInput, match=says) as error:
        prune(build(), **arguments)
    assert "\n" not in str(error.value)
