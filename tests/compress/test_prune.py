"""prune: what goes, what stays, what it costs, and what it says."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.surgery.drawn import gap, randomize
from tfeffi.analysis.cost import cost
from tfeffi.compress import Budget, prune, prune_to_widths
from tfeffi.compress.prune import importance, measure
from tfeffi.compress.prune.importance import Scores
from tfeffi.compress.prune.search import allowed_size
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((40, 8, 8, 3), np.float32)


def net():
    """conv a, conv b added to it, both of 16; conv c of 24; dense 5."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="a")(x)
    x = a = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="b")(x)
    x = layers.Add()([x, a])
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="c")(x)
    x = layers.Dense(5, name="logits")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    randomize(model, 4)
    return model


def whole_numbers(model, seed=0):
    """Small whole weights: float32 sums of them are exact in any order, so 0.0 can be asked for."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.integers(-2, 3, weight.shape))


def dead(model, name, channels, bias=-1000.0):
    kernel, old = model.get_layer(name).get_weights()
    old[channels] = bias
    model.get_layer(name).set_weights([kernel, old])


def test_removing_units_that_were_never_active_changes_outputs_by_exactly_nothing():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, activation="relu", name="a")(inputs)
    x = layers.Conv2D(9, 3, strides=2, activation="relu", name="b")(x)
    x = layers.Dense(7, activation="relu", name="fc")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    whole_numbers(model)
    dead(model, "a", [0, 5, 11])
    dead(model, "b", [8])
    dead(model, "fc", [2, 3], bias=-1e6)
    data = np.random.default_rng(1).integers(0, 3, (50, 8, 8, 3)).astype("float32")
    small, report = prune(model, threshold=0, multiple_of=1, data=data)
    widths = {change.layer: change.after for change in report.changed}
    assert widths["a"] <= 9 and widths["b"] <= 8 and widths["fc"] <= 5
    assert float(np.abs(model(data) - small(data)).max()) == 0.0
    again, report = prune(small, threshold=0, multiple_of=1, data=data)
    assert not report.changed and again.count_params() == small.count_params()


def test_counts_by_hand():
    inputs = keras.Input((2, 2, 1))
    x = layers.Conv2D(3, 1, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="logits")(x))
    model.get_layer("a").set_weights(
        [np.array([1.0, -1.0, 0.5]).reshape(1, 1, 1, 3), np.array([0.0, 0.0, -1.0])]
    )
    data = np.array([1.0, 2.0, 3.0, -4.0, 0.0, 0.0, 0.0, 5.0]).reshape(2, 2, 2, 1)
    coupling = Coupling.of(model)
    found = measure(coupling, data)
    classes = coupling.writers["a"]
    assert found.active[classes].tolist() == [4, 1, 2]  # 1 2 3 5 | -4 | 3 5
    assert found.total[classes].tolist() == [8, 8, 8]
    np.testing.assert_allclose(found.magnitude[classes], [11, 4, 2])  # 0.5·3-1 + 0.5·5-1
    np.testing.assert_allclose(found.share[classes], [0.5, 0.125, 0.25])
    assert found.examples == 2
    _, report = prune(model, threshold=2, multiple_of=1, data=data)
    assert [(c.layer, c.before, c.after) for c in report.changed] == [("a", 3, 1)]


def test_activity_is_measured_after_the_normalization_and_the_addition():
    """A channel dead after conv a alone lives on through the addition of conv b."""
    model = net()
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    beta[[1, 2]] = -1000
    model.get_layer("bn").set_weights([gamma, beta, mean, variance])
    dead(model, "b", [2, 3])
    small, report = prune(model, threshold=0, multiple_of=1, data=IMAGES)
    assert {c.layer: c.after for c in report.changed if c.layer != "c"} == {"a": 15, "b": 15}
    assert gap(model(IMAGES), small(IMAGES)) <= 1e-5


def test_a_layer_all_dead_keeps_one_channel():
    model = net()
    dead(model, "c", slice(None))
    small, report = prune(model, threshold=0, multiple_of=1, data=IMAGES)
    assert {c.layer: c.after for c in report.changed}["c"] == 1
    assert gap(model(IMAGES), small(IMAGES)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        *((name, Budget(macs=0.4)) for name in importance.FUNCTIONS),
        ("l2", Budget(params=0.5)),
        ("activations", Budget(params=2250)),
    ],
)
def test_budgets_are_met_and_not_by_more_than_a_step(name, budget):
    model = net()
    data = IMAGES, np.arange(40) % 5
    small, report = prune(model, budget, importance=name, data=data, multiple_of=1)
    assert budget.of(report.after) <= budget.limit(report.before)
    assert report.after == cost(small) and report.before == cost(model)
    assert budget.of(report.after) >= 0.8 * budget.limit(report.before)
    assert small.output_shape == model.output_shape
    assert report.settings["importance"] == name


@pytest.mark.parametrize("share", [0.2, 0.4, 0.8])
def test_what_is_left_of_a_budget_goes_back(share):
    """No layer could have its next width too: as counted on models that are built."""
    model = net()
    _, report = prune(model, Budget(macs=share), importance="l2")
    widths = {change.layer: change.after for change in report.changed}
    limit = share * report.before.macs
    assert report.after.macs <= limit
    for names in (("a", "b"), ("c",)):
        if not set(names) <= set(widths):
            continue
        full = model.get_layer(names[0]).filters
        wider = allowed_size(widths[names[0]] + 1, full, 8)
        other = prune_to_widths(model, widths | dict.fromkeys(names, wider), importance="l2")[1]
        assert other.after.macs > limit
    assert set(widths) == {"a", "b"}  # c was cut on the way, and is whole again


def test_what_a_threshold_took_or_says_nothing_does_not_come_back():
    model = net()
    dead(model, "c", range(8))
    for more in ({"threshold": 0}, {}):
        _, report = prune(model, Budget(macs=0.4), data=IMAGES, **more)
        assert {c.layer: c.after for c in report.changed}.get("c") == 16


def test_layers_that_lose_the_same_share_get_nothing_back():
    _, report = prune(net(), Budget(macs=0.4), importance="l2", scope="layer")
    assert {c.layer: c.after for c in report.changed} == {"a": 8, "b": 8, "c": 16}


def test_widths_are_multiples_of_eight():
    model = net()
    small, report = prune(model, Budget(macs=0.3), importance="l2")
    widths = [small.get_layer(name).filters for name in "abc"]
    assert all(width % 8 == 0 or width in (1, 2, 4) for width in widths)
    assert widths[0] == widths[1] and report.changed


@pytest.mark.parametrize(
    ("want", "size", "multiple_of", "multiple", "expected"),
    [
        (17, 32, 8, 1, 24), (24, 32, 8, 1, 24), (8, 32, 8, 1, 8), (7, 32, 8, 1, 8),
        (4, 32, 8, 1, 4), (3, 32, 8, 1, 4), (2, 32, 8, 1, 2), (1, 32, 8, 1, 1), (0, 32, 8, 1, 1),
        (17, 20, 8, 1, 20), (3, 6, 8, 1, 4), (5, 6, 8, 1, 6), (3, 9, 1, 1, 3), (0, 9, 1, 1, 1),
        (3, 32, 8, 4, 4), (3, 32, 8, 8, 3), (5, 32, 6, 1, 6), (1, 32, 6, 1, 1),
    ],
)  # fmt: skip
def test_allowed_sizes(want, size, multiple_of, multiple, expected):
    assert allowed_size(want, size, multiple_of, multiple) == expected


def test_the_least_important_go():
    model = net()
    kernel, bias = model.get_layer("c").get_weights()
    kernel[..., [3, 7, 20]] *= 0.001
    model.get_layer("c").set_weights([kernel, bias])
    for name in ("l1", "l2"):
        small, _ = prune(model, importance=name, threshold=0.1, multiple_of=1)
        np.testing.assert_array_equal(
            small.get_layer("c").bias, np.delete(bias, [3, 7, 20])
        )  # fmt: skip
    gamma, *rest = model.get_layer("bn").get_weights()
    gamma[[0, 9]] = [-0.01, 0.02]
    model.get_layer("bn").set_weights([gamma, *rest])
    small, report = prune(model, importance="bn_scale", threshold=0.1, multiple_of=1)
    assert {c.layer: c.after for c in report.changed} == {"a": 14, "b": 14}


def test_a_threshold_and_a_budget():
    model = net()
    dead(model, "c", [1, 2])
    small, report = prune(model, Budget(macs=0.9), threshold=0, data=IMAGES, multiple_of=1)
    assert report.after.macs <= 0.9 * report.before.macs
    assert small.get_layer("c").filters <= 22


def test_ignored_layers_stay():
    _, report = prune(net(), Budget(params=0.7), importance="l2", ignore=["b"])
    assert {c.layer for c in report.changed} == {"c"}
    skipped = {s.layer: s.why for s in report.skipped}
    assert skipped["b"] == "ignored" and skipped["a"] == 'coupled to "b", which is ignored'
    assert "output of the model" in skipped["logits"]


def test_an_importance_of_your_own():
    def last_first(coupling, data):
        values = -np.arange(coupling.classes.count, dtype=float)
        return Scores(values, values, values)

    _, report = prune(net(), Budget(params=0.9), importance=last_first, multiple_of=1)
    assert [c.layer for c in report.changed] == ["c"]
    assert report.settings["importance"] == "last_first"


def test_data_may_come_in_many_forms():
    model = net()
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(40))).batch(7)

    class Images:
        images = np.rint(IMAGES * 255).astype("uint8")

    expected = prune(model, Budget(macs=0.5), data=IMAGES)[1]
    assert prune(model, Budget(macs=0.5), data=pairs)[1] == expected
    assert prune(model, Budget(macs=0.5), data=Images)[1].after.macs <= 0.5 * expected.before.macs


def test_several_inputs():
    one, two = keras.Input((4,), name="one"), keras.Input((3,), name="two")
    x = layers.Concatenate()([layers.Dense(8, "relu", name="a")(one), layers.Dense(8, "relu")(two)])
    model = keras.Model([one, two], layers.Dense(2)(x))
    arrays = [RANDOM.normal(size=(9, 4)), RANDOM.normal(size=(9, 3))]
    named = tf.data.Dataset.from_tensor_slices({"one": arrays[0], "two": arrays[1]}).batch(4)
    listed = prune(model, Budget(params=0.6), data=arrays, multiple_of=1)[1]
    assert listed == prune(model, Budget(params=0.6), data=named, multiple_of=1)[1]


def test_nested_models_are_measured_inside():
    inner = keras.Input((None, None, 6))
    y = layers.Conv2D(10, 3, activation="relu", name="hidden")(inner)
    nested = keras.Model(inner, layers.Conv2D(4, 1, name="out")(y), name="nested")
    inputs = keras.Input((8, 8, 3))
    x = nested(layers.Conv2D(6, 1, activation="relu", name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    dead(nested, "hidden", [1, 2, 3])
    small, report = prune(model, threshold=0, data=IMAGES, multiple_of=1)
    assert ("nested/hidden", 10, 7) in [(c.layer, c.before, c.after) for c in report.changed]
    assert gap(model(IMAGES), small(IMAGES)) <= 1e-5


BAD = [
    (dict(), r"give a budget=Budget\(...\) or a threshold"),
    (dict(budget=0.5), "budget=0.5; give tfeffi.Budget"),
    (dict(budget=Budget(macs=0.5)), 'importance "activations" is measured on data'),
    (dict(budget=Budget(macs=0.5), importance="l3"), 'no importance "l3"; did you mean'),
    (dict(budget=Budget(macs=0.5), importance="l2", ignore=["d"]), 'layer "d" is not in the model'),
    (dict(budget=Budget(macs=0.5), importance="l2", ignore="a"), "give a list of layer names"),
    (dict(budget=Budget(macs=0.5), importance="l2", multiple_of=0), "multiple_of=0"),
    (dict(threshold=float("nan"), importance="l2"), "threshold=nan is not a number"),
    (dict(budget=Budget(params=20), importance="l2"), r"cannot be met: .* still has \d+ params of"),
    (dict(threshold=0, data=IMAGES[:, :7]), r"shape \(40, 7, 8, 3\), input .* takes \(None, 8, 8"),
    (dict(threshold=0, data=IMAGES[:0]), "^prune: the data is empty"),
    (dict(threshold=0, data=tf.data.Dataset.from_tensor_slices(IMAGES).batch(4).take(0)), "empty"),
    (dict(threshold=0, data="images"), "data is str; give a tf.data.Dataset"),
    (dict(threshold=0, data=[IMAGES, IMAGES[:3]]), "neither a tf.data.Dataset"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=[says for _, says in BAD])
def test_bad_input(arguments, says):
    with pytest.raises(BadInput, match=says) as error:
        prune(net(), **arguments)
    assert "\n" not in str(error.value)


def test_the_smallest_reachable_budget_is_told_truly():
    model = net()
    with pytest.raises(BadInput, match="cannot be met") as error:
        prune(model, Budget(macs=300), importance="l2")
    least = int(str(error.value).split("still has ")[1].split()[0].replace(",", ""))
    small, _ = prune(model, Budget(macs=least), importance="l2")
    assert cost(small).macs == least


def test_bn_scale_needs_batch_normalization():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    with pytest.raises(BadInput, match="needs batch normalization with a scale"):
        prune(model, Budget(macs=0.5), importance="bn_scale")


def test_nan_weights():
    model = net()
    model.get_layer("c").kernel.assign(np.full((3, 3, 16, 24), np.nan))
    with pytest.raises(BadInput, match='the kernel of layer "c" holds values that are not finite'):
        prune(model, Budget(macs=0.5), importance="l2")


def test_a_model_of_open_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(BadInput, match="input_shape"):
        prune(model, Budget(macs=0.5), importance="l2")
    _, report = prune(model, Budget(macs=0.5), importance="l2", input_shape=(9, 9, 3))
    assert report.after.macs <= 0.5 * report.before.macs
