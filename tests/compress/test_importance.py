"""What channels score: by hand on tiny models, and against independent bookkeeping on drawn ones."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tests.surgery.drawn import Drawn, weight
from tfeffi.compress import prune
from tfeffi.compress.prune import importance
from tfeffi.compress.prune.activity import measure
from tfeffi.compress.prune.scores import NORMALIZATIONS, REDUCTIONS, Place, normalize, reduce
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling


def dense(first, second):
    """Input -> "a" -> "out", without biases."""
    model = keras.Sequential(
        [
            keras.Input((len(first),)),
            layers.Dense(len(first[0]), use_bias=False, name="a"),
            layers.Dense(len(second[0]), use_bias=False, name="out"),
        ]
    )
    model.set_weights([np.array(first, np.float32), np.array(second, np.float32)])
    return model


def values_of(model, name, layer="a", **arguments):
    coupling = Coupling.of(model)
    scores = importance.score(name, coupling, **arguments)
    return scores.values[coupling.writers[layer]]


FILTERS = dense([[3, 0, 1], [4, 0, 1]], [[1, 2], [0, 1], [2, 0]])


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("l1", {}, [7, 0, 2]),
        ("l2", {}, [5, 0, 2**0.5]),
        ("geometric_median", {}, [5 + 13**0.5, 5 + 2**0.5, 13**0.5 + 2**0.5]),
        ("group_lasso", {}, [(25 + 5) ** 0.5, 1, (2 + 4) ** 0.5]),
        ("group_lasso", {"reduction": "max"}, [5, 1, 2]),
        ("group_lasso", {"reduction": "sum"}, [5 + 5**0.5, 1, 2**0.5 + 2]),
    ],
)
def test_weights_by_hand(name, arguments, expected):
    found = values_of(FILTERS, name, **arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_filter_that_others_replace_best_is_the_one_in_the_middle():
    model = dense([[0.0, 10, 5, 0, 10], [0, 0, 5.1, 10, 10]], np.ones((5, 2)))
    assert np.argmin(values_of(model, "geometric_median")) == 2
    assert np.argmin(values_of(model, "l2")) == 0


def test_a_channel_that_is_flattened_is_read_at_every_position():
    inputs = keras.Input((2, 2, 1))
    x = layers.Conv2D(2, 1, use_bias=False, name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(layers.Flatten()(x)))
    rows = np.array([[1.0], [0], [1], [0], [1], [0], [1], [2]])  # channels 0 1 0 1 0 1 0 1
    model.set_weights([np.array([2.0, 3]).reshape(1, 1, 1, 2), rows])
    np.testing.assert_allclose(values_of(model, "group_lasso"), [8**0.5, 13**0.5], rtol=1e-6)


@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 3), min_size=1, max_size=5),
    st.integers(0, 99),
)
@settings(max_examples=10, deadline=None)
def test_the_group_norm_is_over_every_kernel_that_makes_or_reads_the_channel(codes, seed):
    drawn = Drawn(codes, seed=seed)
    squares = {}
    for read in drawn.reads:
        rows = np.moveaxis(np.array(weight(drawn.model, read.layer, read.weight)), read.axis, 0)
        for row, one in zip(rows, read.ids, strict=True):
            squares[drawn.root(one)] = squares.get(drawn.root(one), 0) + np.square(row).sum()
    written = {path: ids for path, ids in drawn.writes.items() if not path.startswith("pad")}
    for path, ids in written.items():
        kernel = "pointwise_kernel" if "separable" in path else "kernel"
        axis = -2 if "transposed" in path else -1
        rows = np.moveaxis(np.array(weight(drawn.model, path, kernel)), axis, 0)
        for row, one in zip(rows, ids, strict=True):
            squares[drawn.root(one)] = squares.get(drawn.root(one), 0) + np.square(row).sum()
    coupling = Coupling.of(drawn.model)
    found, classes = importance.group_lasso(coupling).values, drawn.classes()
    for path, ids in written.items():
        free = [i for i, one in enumerate(ids) if drawn.root(one) in classes]
        expected = [squares[drawn.root(ids[i])] ** 0.5 for i in free]
        np.testing.assert_allclose(found[coupling.writers[path][free]], expected, rtol=1e-4)


RESIDUAL = {"mean": [4, 3.5], "sum": [8, 7], "max": [5, 6], "prod": [15, 6], "first": [3, 6]}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_coupled_channels_are_scored_as_one(reduction):
    """Layer a makes channels of norm 3 and 6, layer b, which is added, of norm 5 and 1."""
    inputs = keras.Input((1,))
    a = layers.Dense(2, use_bias=False, name="a")(inputs)
    b = layers.Dense(2, use_bias=False, name="b")(a)
    model = keras.Model(inputs, layers.Dense(1, name="out")(layers.Add()([a, b])))
    model.get_layer("a").set_weights([np.array([[3.0, 6]])])
    model.get_layer("b").set_weights([np.array([[3.0, 0], [4, 1]])])
    for layer in "ab":
        found = values_of(model, "l2", layer, reduction=reduction)
        np.testing.assert_allclose(found, RESIDUAL[reduction], rtol=1e-6)


def test_reductions_count_places_and_leave_what_nothing_says():
    places = [
        Place("a", np.array([0, 1]), np.array([3.0, 1.0])),
        Place("b", np.array([0]), np.array([5.0])),
    ]
    assert reduce(3, places, "max").tolist() == [5, 1, np.inf]
    assert reduce(3, places, "mean").tolist() == [4, 1, np.inf]
    assert Place.of("g", np.array([4, 2, 4]), np.array([1.0, 7, 3])).values.tolist() == [7, 2]


BY_HAND = {
    "none": [1, 4, 4, 3],
    "mean": [1 / 3, 4 / 3, 4 / 3, 1],
    "max": [0.25, 1, 1, 0.75],
    "sum": [1 / 12, 1 / 3, 1 / 3, 0.25],
    "l2": list(np.array([1, 4, 4, 3]) / 42**0.5),
    "standardization": [0, 1, 1, 2 / 3],
    "gaussian": list(np.array([-2, 1, 1, 0]) / 1.5**0.5),
    "lamp": [1 / 12, 4 / 8, 4 / 4, 3 / 11],
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_by_hand(name):
    """One group of 5 channels, of which nothing says the last; the next group is all zeros."""
    coupling = Coupling.of(dense(np.ones((1, 5)), np.ones((5, 2))))
    values = np.zeros(coupling.classes.count)
    values[coupling.writers["a"]] = [1, 4, 4, 3, np.inf]
    found = normalize(coupling, values, name)
    np.testing.assert_allclose(found[coupling.writers["a"]], [*BY_HAND[name], np.inf])
    assert found[coupling.writers["out"]].tolist() == [0, 0]


def counting(counts, examples):
    """A model and data on which unit i of "a" is active in counts[i] of the examples."""
    data = np.array([[float(n < count) for count in counts] for n in range(examples)])
    return dense(np.eye(len(counts)), np.ones((len(counts), 2))), data


@pytest.mark.parametrize(
    ("counts", "gone"),
    [
        ([0, 9, 9, 9, 9], []),  # 0 is exactly mean - 2·std: not below
        ([0, 9, 9, 9, 9, 9], [0]),  # 7.5 - 2·3.35 = 0.79
        ([5, 5, 5], []),  # std = 0
        ([0, 0, 0], []),
        ([8, 9, 10, 9, 8, 10, 9, 9, 3, 9, 10], [8]),
    ],
)
def test_outliers_are_below_the_mean_by_two_deviations(counts, gone):
    model, data = counting(counts, 12)
    kernel = model.get_layer("out").get_weights()[0] * np.arange(1, len(counts) + 1)[:, None]
    model.get_layer("out").set_weights([kernel])
    small, report = prune(model, importance="outliers", data=data, multiple_of=1)
    left = [i + 1 for i in range(len(counts)) if i not in gone]
    assert small.get_layer("out").get_weights()[0][:, 0].tolist() == left
    assert report.settings["threshold"] == -2


def test_activities_are_reduced_over_the_layers_that_read():
    """Channel 0 is read by b, after a ReLU, and by c, as it is; channel 1 likewise."""
    inputs = keras.Input((2,))
    a = layers.Dense(2, use_bias=False, name="a")(inputs)
    b = layers.Dense(1, use_bias=False, name="b")(layers.ReLU()(a))
    c = layers.Dense(1, use_bias=False, name="c")(a)
    model = keras.Model(inputs, layers.Concatenate()([b, c]))
    model.get_layer("a").set_weights([np.eye(2)])
    coupling = Coupling.of(model)
    data = np.array([[1.0, -1], [2, -2], [-3, 0], [-6, 0]])
    at = coupling.writers["a"]
    assert measure(coupling, data).active[at].tolist() == [2 + 4, 0 + 2]
    expected = {None: [6, 2], "sum": [6, 2], "max": [4, 2], "mean": [3, 1], "prod": [8, 0],
                "first": [2, 0]}  # fmt: skip
    for reduction, counts in expected.items():
        found = importance.activations(coupling, data, reduction=reduction)
        assert found.values[at].tolist() == counts, reduction
    found = importance.mean_activation(coupling, data, reduction="max").values[at]
    np.testing.assert_allclose(found, [3, 0.75])


def test_random_is_seeded():
    coupling = Coupling.of(FILTERS)
    one, same, other = (importance.random(coupling, seed=seed).rank for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).all()


def test_options():
    assert importance.options("l2", reduction="max", loss=None, seed=3) == {"reduction": "max"}
    assert importance.options("random", seed=3) == {"seed": 3}
    assert importance.options("fisher", normalization=None)["normalization"] == "none"
    with pytest.raises(BadInput, match='"l2" has no loss; of these options it has reduction'):
        importance.options("l2", reduction=None, loss="self")
    with pytest.raises(BadInput, match='"random" has no scope; of these options it has none'):
        importance.options("random", scope="layer")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: importance.l2(c, reduction="average"), 'no reduction "average"; known: first'),
        (lambda c: importance.l2(c, normalization="standarization"), 'mean "standardization"'),
        (lambda c: importance.score("fishr", c), 'no importance "fishr"; did you mean "fisher"'),
        (lambda c: importance.score("fisher", c), '"fisher" is measured on data'),
        (lambda c: importance.score(lambda c, data: np.ones(9), c), "must give Scores of three"),
        (
            lambda c: importance.score(lambda c, data: importance.Scores(*np.ones((3, 9))), c),
            "three arrays of 5 numbers, one for each class",
        ),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(BadInput, match=says) as error:
        call(Coupling.of(FILTERS))
    assert "\n" not in str(error.value)
