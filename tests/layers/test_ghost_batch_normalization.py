"""The ghost layer against Keras's own, one virtual batch after the other; and its files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from tests.layers.test_fuse import BLOCKED, run
from tests.train.cases import convnet, images
from tfeffi.errors import BadInput
from tfeffi.layers import GhostBatchNormalization, ghost_batch_normalization, ghost_class
from tfeffi.surgery import reindex
from tfeffi.train import Settings, fit

Plain = keras.layers.BatchNormalization


def twins(shape, ghost_batch, **arguments):
    """Keras's layer and ours with the same weights, none of them at its initial value."""
    layers = Plain(**arguments), GhostBatchNormalization(ghost_batch, **arguments)
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.build(shape)
    weights = [rng.uniform(0.5, 1.5, weight.shape) for weight in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2.0, shape).astype("float32")


def assert_same_weights(ours, theirs, atol=1e-5):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@settings(max_examples=25)
@given(
    parts=st.integers(1, 4),
    ghost_batch=st.integers(2, 5),
    space=st.sampled_from([(), (3,), (3, 2), (2, 2, 2)]),
    axis=st.sampled_from([-1, 1]),
    momentum=st.sampled_from([0.0, 0.9]),
    center=st.booleans(),
    scale=st.booleans(),
)
def test_it_is_keras_s_on_one_virtual_batch_after_the_other(parts, ghost_batch, space, **arguments):
    shape = (parts * ghost_batch, *space, 4)
    plain, ghost = twins(shape, ghost_batch, **arguments)
    x = drawn(shape)
    wanted = np.concatenate([plain(part, training=True) for part in np.split(x, parts)])
    np.testing.assert_allclose(ghost(x, training=True), wanted, atol=1e-4)
    assert_same_weights(ghost, plain)
    np.testing.assert_allclose(ghost(x), plain(x), atol=1e-5)  # inference


@pytest.mark.parametrize("ghost_batch", [8, 11])
def test_of_the_whole_batch_it_is_keras_s(ghost_batch):
    shape = (8, 3, 3, 2)
    plain, ghost = twins(shape, ghost_batch)
    wanted = plain(drawn(shape), training=True)
    np.testing.assert_allclose(ghost(drawn(shape), training=True), wanted, atol=1e-5)
    assert_same_weights(ghost, plain)


@pytest.mark.parametrize("channels", [12, 16])
def test_the_fused_kernel_and_keras_s_operations_agree(channels):
    """In half precision, too, where few channels are folded."""
    shape = (8, 6, 6, channels)
    fused = GhostBatchNormalization(4, dtype="mixed_bfloat16")
    plain = ghost_class(4, fuse=False)(dtype="mixed_bfloat16")
    x = drawn(shape)
    wanted, found = plain(x, training=True), fused(x, training=True)
    assert found.dtype == wanted.dtype == "bfloat16"
    np.testing.assert_allclose(ops.cast(found, "float32"), ops.cast(wanted, "float32"), atol=0.03)
    assert_same_weights(fused, plain, atol=2e-3)


def test_gradients_are_those_of_the_parts():
    plain, ghost = twins((12, 3, 3, 2), 4)
    x = tf.constant(drawn((12, 3, 3, 2)))
    found = []
    for layer, parts in ((plain, 3), (ghost, 1)):
        weights = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = tf.concat([layer(p, training=True) for p in tf.split(x, parts)], 0)
            loss = tf.reduce_mean(outputs**3)
        found.append(tape.gradient(loss, [x, *weights]))
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_an_open_batch_and_half_precision():
    _, exact = twins((None, 3, 2), 4)
    _, half = twins((None, 3, 2), 4, dtype="mixed_bfloat16")
    compiled = tf.function(
        lambda x: (exact(x, training=True), half(x, training=True)),
        input_signature=[tf.TensorSpec((None, 3, 2))],
    )
    x = drawn((12, 3, 2))
    outputs, rough = compiled(x)
    _, twin = twins((None, 3, 2), 4)
    np.testing.assert_allclose(outputs, twin(x, training=True), atol=1e-5)
    assert rough.dtype == tf.bfloat16 and {w.dtype for w in half.weights} == {"float32"}
    np.testing.assert_allclose(ops.cast(rough, "float32"), outputs, atol=0.05)


def test_frozen_masked_and_renormalized_layers_are_keras_s():
    mask = np.arange(36).reshape(12, 3) % 3 > 0
    for arguments, call in (
        ({}, {"mask": mask}),
        ({"renorm": True}, {}),
        ({"synchronized": True}, {}),
    ):
        plain, ghost = twins((12, 3, 2), 4, **arguments)
        x = drawn((12, 3, 2))
        outputs = [layer(x, training=True, **call) for layer in (ghost, plain)]
        np.testing.assert_array_equal(*outputs)
    plain, ghost = twins((12, 3, 2), 4)
    ghost.trainable = False
    np.testing.assert_array_equal(ghost(x, training=True), plain(x))


# ---------------------------------------------------------------- models, files, training


def test_its_config_is_plain_keras_and_surgery_passes_it():
    model = convnet()
    ghost = ghost_batch_normalization(model, 4)
    assert isinstance(ghost.get_layer("norm"), GhostBatchNormalization)
    assert ghost.get_layer("norm").ghost_batch == 4
    assert ghost.get_config() == model.get_config()
    narrow, _ = reindex(ghost, {"conv": [0, 2, 5]})
    assert narrow.get_layer("norm").gamma.shape == (3,)


def test_its_file_loads_where_tfeffi_is_not_installed(tmp_path):
    ghost = ghost_batch_normalization(convnet(), 4)
    x = drawn((6, 8, 8, 1))
    ghost.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    load = """
        import keras, numpy as np
        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        np.save(sys.argv[1] + "/y.npy", model(np.load(sys.argv[1] + "/x.npy")))
        assert type(model.get_layer("norm")) is keras.layers.BatchNormalization
    """
    run(BLOCKED.replace("\n    ", "\n") + load.replace("\n        ", "\n"), tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), ghost(x), atol=1e-5)


def test_fit_trains_with_it_and_gives_back_plain_layers():
    start = convnet()
    trained = {
        size: fit(
            start, images(), settings=Settings(epochs=1, batch_size=32, ghost_batch=size),
            verbose=False,
        ).model
        for size in (None, 32, 8)
    }  # fmt: skip
    assert {type(model.get_layer("norm")) for model in trained.values()} == {Plain}
    moved = {size: model.get_layer("norm").get_weights() for size, model in trained.items()}
    for whole, none, parts in zip(moved[32], moved[None], moved[8], strict=True):
        np.testing.assert_allclose(whole, none, atol=1e-4)
        assert np.abs(parts - none).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GhostBatchNormalization(0), "ghost_batch=0 must be a whole number"),
        (lambda: ghost_batch_normalization(convnet(), 2.5), "ghost_batch=2.5 must be a whole"),
        (lambda: Settings(batch_size=32, ghost_batch=12), "ghost_batch=12 does not divide a batch of 32"),
        (lambda: GhostBatchNormalization(4)(drawn((6, 2)), training=True), "batch of 6"),
        (lambda: ghost_batch_normalization("model", 4), "expected a keras.Model"),
    ],
)  # fmt: skip
def test_bad_sizes(make, words):
    with pytest.raises(BadInput, match=words):
        make()
