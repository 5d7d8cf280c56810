"""The fused layer against Keras's own: same numbers everywhere, same files, less time."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.layers import FusedBatchNormalization

Plain = keras.layers.BatchNormalization
HAS_RENORM = "renorm" in inspect.signature(Plain.__init__).parameters  # since Keras 3.13
HALF = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}  # half a unit in the last place of 1


def images(shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2.0, shape).astype("float32")


def twins(shape, **arguments):
    """Keras's layer and ours with the same weights, none of them at its initial value."""
    layers = Plain(**arguments), FusedBatchNormalization(**arguments)
    for layer in layers:
        layer.build(shape)
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 1.5, weight.shape) for weight in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def gradients(layer, x, training, **call):
    """The output, and the gradients of the mean cube for weights and, times its size, input."""
    x = tf.convert_to_tensor(x)
    weights = [weight.value for weight in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training, **call)
        loss = tf.reduce_mean(tf.cast(y, "float32") ** 3)
    by_input, *by_weights = tape.gradient(loss, [x, *weights])
    return y, [by_input * tf.cast(tf.size(x), x.dtype), *by_weights]


def assert_same(ours, theirs, tolerance=1e-5):
    """Equal within the tolerance, relative to the largest value."""
    assert ours.dtype == theirs.dtype
    ours, theirs = (np.asarray(tf.cast(x, "float64")) for x in (ours, theirs))
    largest = max(1.0, np.max(np.abs(theirs), initial=0.0))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * largest)


def assert_twins_agree(shape, x, training, tolerance=1e-5, call=None, compiled=None, **arguments):
    plain, fused = twins(shape, **arguments)
    results = []
    for layer in (plain, fused):

        def run(x, layer=layer):
            return gradients(layer, x, training, **(call or {}))

        if compiled is not None:
            run = tf.function(run, jit_compile=compiled)
        results.append(run(x))
    (y_plain, by_plain), (y_fused, by_fused) = results
    assert_same(y_fused, y_plain, tolerance)
    for ours, theirs in zip(by_fused, by_plain, strict=True):
        assert_same(ours, theirs, tolerance)
    for ours, theirs in zip(fused.weights, plain.weights, strict=True):
        assert_same(ours.value, theirs.value)
    return fused


def uses_the_kernel(layer, x, training=True, **call):
    """Whether the fused operation is in the graph of a call."""

    @tf.function
    def run(x):
        return layer(x, training=training, **call)

    graph = run.get_concrete_function(tf.TensorSpec.from_tensor(tf.convert_to_tensor(x))).graph
    return "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9)),
    training=st.booleans(),
    center=st.booleans(),
    scale=st.booleans(),
    epsilon=st.sampled_from([1e-3, 1e-5]),
    momentum=st.sampled_from([0.0, 0.9, 0.99]),
    axis=st.sampled_from([-1, 3]),
)
def test_same_outputs_gradients_and_moving_statistics(shape, training, **arguments):
    # Near a variance of 0 the normalization itself is ill-conditioned: give it a spread.
    x = images(shape) + 10 * np.indices(shape[:3]).sum(0)[..., None].astype("float32")
    tolerance = 1e-5 if shape[0] * shape[1] * shape[2] > 4 else 1e-3
    fused = assert_twins_agree(shape, x, training, tolerance, **arguments)
    assert uses_the_kernel(fused, x, training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_same_inside_tf_function(training, compiled):
    assert_twins_agree((8, 6, 5, 7), images((8, 6, 5, 7)), training, compiled=compiled)


@pytest.mark.parametrize("policy", HALF)
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_activations_and_float32_statistics(policy, training):
    x = images((8, 6, 5, 7))
    fused = assert_twins_agree(x.shape, x, training, 2 * HALF[policy], dtype=policy)
    assert uses_the_kernel(fused, x, training)
    assert fused(x).dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in fused.weights} == {"float32"}


@pytest.mark.parametrize("policy", ["float32", *HALF])
def test_statistics_do_not_overflow(policy):
    """60 000 is near float16's largest value, its square far beyond."""
    x = (60_000 * np.sign(images((4, 3, 3, 2)))).astype("float32")
    plain, fused = twins(x.shape, dtype=policy, momentum=0.0)
    for layer in (plain, fused):
        layer(x, training=True)
    assert np.isfinite(fused.get_weights()[3]).all()
    assert_same(fused.moving_variance.value, plain.moving_variance.value)


def test_the_running_variance_is_the_biased_one():
    x = images((2, 1, 2, 3))
    layer = FusedBatchNormalization(momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("batch", [None, 1])
def test_a_single_position_has_no_variance(batch):
    layer = FusedBatchNormalization(momentum=0.0)
    layer.build((None, 1, 1, 3))
    call = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((batch, 1, 1, 3))]
    )
    outputs = call(images((1, 1, 1, 3)))
    np.testing.assert_array_equal(outputs, np.zeros((1, 1, 1, 3)))
    np.testing.assert_array_equal(layer.moving_variance, np.zeros(3))


def test_open_batch_and_sizes():
    plain, fused = twins((None, None, None, 4), momentum=0.5)
    spec = [tf.TensorSpec((None, None, None, 4))]
    for shape in ((3, 5, 2, 4), (7, 1, 3, 4)):
        outputs = [
            tf.function(lambda x, layer=layer: layer(x, training=True), input_signature=spec)(
                images(shape)
            )
            for layer in (plain, fused)
        ]
        assert_same(outputs[1], outputs[0])
    assert_same(fused.moving_variance.value, plain.moving_variance.value)


def test_second_derivatives():
    x = images((4, 3, 3, 2))
    found = []
    for layer in twins(x.shape):
        gamma = layer.gamma.value
        with tf.GradientTape() as outer:
            outer.watch(gamma)
            _, (by_input, *_) = gradients(layer, x, True)
            square = tf.reduce_sum(by_input**2)
        found.append(outer.gradient(square, gamma))
    assert_same(found[1], found[0], 1e-4)


@pytest.mark.parametrize(
    ("shape", "arguments", "call"),
    [
        ((6, 5), {}, {}),
        ((6, 4, 5), {}, {}),
        ((3, 4, 4, 4, 2), {}, {}),
        ((6, 3, 4, 5), {"axis": 1}, {}),
        ((6, 3, 4, 5), {"axis": 2}, {}),
        ((6, 3, 4, 5), {"synchronized": True}, {}),
        ((6, 3, 4, 5), {"dtype": "float64"}, {}),
        ((6, 3, 4, 5), {}, {"mask": np.arange(72).reshape(6, 3, 4) % 3 > 0}),
    ],
)
def test_keras_takes_over_where_the_kernel_does_not_apply(shape, arguments, call):
    fused = assert_twins_agree(shape, images(shape), True, call=call, **arguments)
    assert not uses_the_kernel(fused, images(shape), **call)


@pytest.mark.skipif(not HAS_RENORM, reason="this Keras has no batch renormalization")
def test_renorm_is_left_to_keras():
    x = images((6, 3, 4, 5))
    fused = assert_twins_agree(x.shape, x, True, renorm=True)
    assert not uses_the_kernel(fused, x)
    assert uses_the_kernel(fused, x, training=False)


def test_a_frozen_layer_runs_in_inference_mode():
    plain, fused = twins((6, 3, 4, 5))
    x = images((6, 3, 4, 5))
    expected = plain(x, training=False)
    before = fused.get_weights()
    fused.trainable = False
    assert_same(fused(x, training=True), expected)
    for old, new in zip(before, fused.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_stateless_calls_leave_the_variables():
    _, fused = twins((6, 3, 4, 5))
    before = fused.get_weights()
    states = ([v.value for v in fused.trainable_variables],
              [v.value for v in fused.non_trainable_variables])  # fmt: skip
    _, moved = fused.stateless_call(*states, images((6, 3, 4, 5)), training=True)
    assert np.abs(moved[0] - before[2]).max() > 1e-4
    np.testing.assert_array_equal(before[2], fused.get_weights()[2])


def test_it_is_ours_and_keras_s():
    layer = FusedBatchNormalization()
    assert isinstance(layer, FusedBatchNormalization)
    assert isinstance(layer, Plain)
    assert type(layer) is FusedBatchNormalization
    assert not isinstance(Plain(), FusedBatchNormalization)
