"""keras.ops in a model: what follows, exactly, and what pins. And what a model's layers may be."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.surgery.drawn import gap, images, randomize
from tests.surgery.test_every_layer import rows_of, without_rows
from tfeffi.errors import BadInput
from tfeffi.surgery import reindex

WIDTH, KEPT, GONE = 6, [0, 2, 3, 5], [1, 4]
ELEMENTWISE = (
    "abs arcsinh arctan ceil cos cosh deg2rad erf exp expm1 floor log1p "
    "negative reciprocal round sign sin sinh square tan tanh trunc celu elu gelu hard_sigmoid "
    "hard_silu hard_tanh leaky_relu log_sigmoid relu relu6 selu sigmoid silu soft_shrink softplus "
    "softsign squareplus sparse_plus tanh_shrink stop_gradient zeros_like ones_like"
)
FOLLOWED = {
    **{n: getattr(ops, n) for n in ELEMENTWISE.split() if hasattr(ops, n)},
    "sqrt": lambda x: ops.sqrt(ops.abs(x)),
    "logic": lambda x: ops.cast(ops.logical_not(ops.isnan(x)), "float32"),
    "clip": lambda x: ops.clip(x, -0.2, 0.4),
    "cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
    "scalars": lambda x: 1.5 - 2.0 * x**2 / 3,
    "where": lambda x: ops.where(x > 0.1, x, 0.2 * x),
    "maximum": lambda x: ops.maximum(x, ops.minimum(x * 2, 0.3)),
    "logaddexp": lambda x: ops.logaddexp(x, -x),
    "slice": lambda x: x[..., 1:5],
    "slice_of_a_slice": lambda x: x[:, 1:, :, :-1][:, :, ::2, 1:],
    "backwards": lambda x: x[:, ::-1, :, ::-1],
    "one_place": lambda x: x[:, 0, :, 2:],
    "new_axis": lambda x: x[:, None, ..., :4],
    "split": lambda x: ops.concatenate([y + 0.1 for y in ops.split(x, 3, axis=-1)][::-1], -1),
    "split_at": lambda x: ops.split(x, [1, 3], axis=-1)[2],
    "split_places": lambda x: ops.split(x, 2, axis=1)[1],
    "concatenate": lambda x: ops.concatenate([x, x * x], axis=-1),
    "concatenate_places": lambda x: ops.concatenate([x, ops.sin(x)], axis=1),
    "reshape": lambda x: ops.reshape(x, (-1, 16, WIDTH)),
    "reshape_some": lambda x: ops.reshape(x, (-1, 2, 8, WIDTH)),
    "flat": lambda x: ops.reshape(x, (-1, 16 * WIDTH)),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1, 3)),
    "there_and_back": lambda x: ops.swapaxes(ops.tanh(ops.swapaxes(x, 1, 3)), 3, 1),
    "moveaxis": lambda x: ops.moveaxis(ops.moveaxis(x, -1, 1) + 1, 1, -1),
    "expand": lambda x: ops.expand_dims(x, (1, 2)),
    "squeeze": lambda x: ops.squeeze(x[:, :1, :1]),
    "mean": lambda x: ops.mean(x, axis=(1, 2)),
    "std": lambda x: x - ops.std(x, axis=(1, 2), keepdims=True),
    "max": lambda x: ops.max(x, axis=1),
    "logsumexp": lambda x: ops.logsumexp(x, axis=2),
    "argmax": lambda x: ops.cast(ops.argmax(x, axis=1), "float32"),
    "softmax_places": lambda x: ops.softmax(x, axis=1),
    "pad": lambda x: ops.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]]),
    "repeat": lambda x: ops.repeat(x, 2, axis=-1),
    "repeat_places": lambda x: ops.repeat(x, 2, axis=1),
    "flip": lambda x: ops.flip(x, axis=1),
    "cumsum": lambda x: ops.cumsum(x, axis=2),
    "max_pool": lambda x: ops.max_pool(x, 2),
    "average_pool": lambda x: ops.average_pool(x, 2),
    "resize": lambda x: ops.image.resize(x, (3, 5)),
}
PINNED = {
    "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))),
    "einsum": lambda x: ops.einsum("bhwc,bhwd->bhcd", x, x),
    "every_other": lambda x: x[..., ::2],
    "one_channel": lambda x: x[..., 3],
    "take": lambda x: ops.take(x, [1, 2], axis=-1),
    "sum": lambda x: ops.sum(x, axis=-1),
    "mean_of_all": lambda x: ops.mean(x, keepdims=True) * x,
    "softmax": lambda x: ops.softmax(x),
    "sort": lambda x: ops.sort(x, axis=-1),
    "cumsum": lambda x: ops.cumsum(x, axis=-1),
    "reflect": lambda x: ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], mode="reflect"),
    "roll": lambda x: ops.roll(x, 1, axis=-1),
    "vector": lambda x: x * np.arange(6, dtype="float32"),
    "glu": lambda x: ops.glu(x),
}  # fmt: skip


def build(function):
    inputs = keras.Input((4, 4, 3))
    first = layers.Dense(WIDTH, activation="tanh", name="a")(inputs)
    y = function(first)
    out = layers.Dense(2, name="b")(y if len(y.shape) > 1 else ops.expand_dims(y, -1))
    model = keras.Model(inputs, out)
    randomize(model, 3)
    return model, keras.Model(inputs, y)


@pytest.mark.parametrize("name", FOLLOWED)
def test_it_is_followed(name):
    model, inner = build(FOLLOWED[name])
    x = images(model)
    small, _ = reindex(model, {"a": KEPT})
    rows = rows_of(model, inner, x, GONE)
    stay = inner.output.shape[-1] - small.get_layer("b").kernel.shape[0]
    if name not in ("logic", "zeros_like", "ones_like", "sign", "argmax", "round",
                    "ceil", "floor", "trunc", "cast", "stop_gradient", "threshold", "soft_shrink",
                    "tanh_shrink"):  # fmt: skip
        assert len(rows) == stay
    else:  # what hardly moves is found by its place
        rows = GONE
    without_rows(model, rows)
    assert gap(np.nan_to_num(model(x)), np.nan_to_num(small(x))) <= 1e-5
    if name not in ("backwards", "split"):
        wide, _ = reindex(model, {"a": [0, 0, 1, 2, 3, 4, 5, 5]})
        assert gap(np.nan_to_num(model(x)), np.nan_to_num(wide(x))) <= 1e-5


@pytest.mark.parametrize("name", [n for n in PINNED if hasattr(ops, n) or n not in ("glu",)])
def test_it_pins(name):
    model, _ = build(PINNED[name])
    with pytest.raises(BadInput, match=r'channel \d of "a" must stay: ".*" \(ops\.'):
        reindex(model, {"a": KEPT})
    same, _ = reindex(model, {"a": range(WIDTH)})
    x = images(model)
    np.testing.assert_array_equal(model(x), same(x))


def test_channels_of_zeros_come_and_go():
    """The shortcut of the first residual networks: strides, and padding by zeros."""
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(x)
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="b")(x)
    y = y + ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [2, 2]])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="c")(ops.relu(y)))
    randomize(model, 0)
    small, _ = reindex(model, {"b": [1, 2, 5]})
    assert small.get_layer("a").filters == 2
    kernel = np.array(model.get_layer("c").kernel)
    kernel[:, :, [0, 3, 4, 6, 7]] = 0
    model.get_layer("c").kernel.assign(kernel)
    kernel = np.array(model.get_layer("b").kernel)
    kernel[:, :, [1, 2]] = 0  # "a" keeps what stands at 2 and 5 of "b"
    model.get_layer("b").kernel.assign(kernel)
    x = images(model)
    assert gap(model(x), small(x)) <= 1e-5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_policy_of_each_layer_stays(policy):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="a", dtype=policy)(x)
    x = layers.BatchNormalization(name="norm", dtype=policy)(x)
    x = layers.SeparableConv2D(6, 3, name="c", dtype="float32")(ops.relu(x))
    x = layers.TimeDistributed(layers.Dense(4, dtype=policy), name="t", dtype=policy)(x)
    model = keras.Model(inputs, layers.Dense(2, name="b", dtype="float64")(x))
    randomize(model, 1)
    small, _ = reindex(model, {"a": [0, 3, 6], "c": [1, 2], "t": [0, 3]})
    for old, new in zip(model.layers, small.layers, strict=True):
        assert old.dtype_policy.name == new.dtype_policy.name
        assert [v.dtype for v in old.variables] == [v.dtype for v in new.variables]
    assert small.get_layer("t").layer.dtype_policy.name == policy
    assert small(images(model)).dtype == model(images(model)).dtype


def test_nested_sequentials_of_nested_models_shared_by_two_inputs():
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2D(6, 1, activation="tanh", name="a"),
         layers.Conv2D(5, 3, padding="same", name="c")], name="inner",
    )  # fmt: skip
    x = keras.Input((4, 4, 3))
    outer = keras.Model(x, ops.tanh(inner(x)) + 1, name="outer")
    one, two = keras.Input((4, 4, 3), name="one"), keras.Input((4, 4, 3), name="two")
    y = layers.Concatenate(axis=1)([outer(one), outer(two)])
    heads = {"p": layers.Dense(2, name="p")(y), "q": layers.Conv2D(3, 1, name="q")(outer(two))}
    model = keras.Model({"one": one, "two": two}, heads)
    randomize(model, 2)
    small, slices = reindex(model, {"outer/inner/a": [0, 2, 5], "outer/inner/c": [1, 3]})
    assert len(slices.paths) == len(model.variables)
    for name, rows in (("a", [1, 3, 4]), ("c", [0, 2, 4])):
        for layer, axis in ((inner.get_layer("c"), 2),) if name == "a" else (
            (model.get_layer("p"), 0), (model.get_layer("q"), 2)):  # fmt: skip
            kernel = np.moveaxis(np.array(layer.kernel), axis, 0)
            kernel[rows] = 0
            layer.kernel.assign(np.moveaxis(kernel, 0, axis))
    random = np.random.default_rng(0)
    x = {k: random.normal(size=(2, 4, 4, 3)).astype("float32") for k in ("one", "two")}
    want, got = model(x), small(x)
    assert set(want) == set(got)
    assert all(gap(want[key], got[key]) <= 1e-5 for key in want)
