"""keep_zeros and shared_weights: what was zero stays zero, what was equal stays equal, through fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfeffi import compress, data, methods, models
from tfeffi.errors import BadInput
from tfeffi.methods.keep_zeros import masked
from tfeffi.methods.shared_weights import summed
from tfeffi.train import Settings, fit

OPTIMIZERS = (
    {"name": "sgd", "momentum": 0.9, "nesterov": True},
    {"name": "adamw", "weight_decay": 0.01},
)


MUON = {"name": "convolution_muon"}  # mixes the weights of a kernel


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return models.build("mnist_classifier", width_multiplier=0.125)


def kernels_of(model):
    return [np.asarray(w) for w in model.weights if w.name.endswith("kernel")]


def tuned(model, method, optimizer, precision="float32", **arguments):
    settings = Settings(
        epochs=1, batch_size=50, learning_rate=1e-3, l2=1e-3, optimizer=optimizer, precision=precision
    )  # fmt: skip
    made = methods.build(method, **arguments)
    images = data.load("fashion_mini", "train[:400]")
    return fit(model, images, settings=settings, methods=[made], verbose=False).model


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, MUON], ids=lambda o: o["name"])
def test_zeros_stay_and_the_rest_moves(model, optimizer):
    sparse, _ = compress.sparsify(model, 0.7)
    after = tuned(sparse, "keep_zeros", optimizer)
    for old, new in zip(kernels_of(sparse), kernels_of(after), strict=True):
        assert (new[old == 0] == 0).all()
        assert (new[old != 0] != old[old != 0]).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o["name"])
def test_equal_weights_move_as_one(model, optimizer):
    sparse, _ = compress.sparsify(model, 0.5)
    shared, _ = compress.cluster(sparse, 3, preserve_sparsity=True)
    after = tuned(shared, "shared_weights", optimizer, "mixed_bfloat16")
    for old, new in zip(kernels_of(shared), kernels_of(after), strict=True):
        assert np.unique(new).size <= 8 and not np.array_equal(new, old)
        assert (new[old == 0] == 0).all()
        for value in np.unique(old):
            assert np.unique(new[old == value]).size == 1


def test_zeros_may_move_with_the_rest(model):
    sparse, _ = compress.sparsify(model, 0.9, scope="layer")
    after = tuned(sparse, "shared_weights", OPTIMIZERS[1], keep_zeros=False)
    moved = [new[old == 0] for old, new in zip(kernels_of(sparse), kernels_of(after), strict=True)]
    assert all(np.unique(values).size <= 1 for values in moved)
    assert any(values.size and values[0] != 0 for values in moved)


def test_the_gradient_of_a_centroid_is_the_sum_of_its_members():
    """Written as a table of values and an index, TensorFlow's own gradient of the table says so."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 5, 24)
    centroids, x = tf.Variable(rng.normal(size=5)), rng.normal(size=(3, 6))
    with tf.GradientTape(persistent=True) as tape:
        kernel = tf.reshape(tf.gather(centroids, index), (6, 4))
        tape.watch(kernel)
        loss = tf.reduce_sum(tf.sin(x @ kernel))
    of_table = tf.convert_to_tensor(tape.gradient(loss, centroids))
    found = np.asarray(summed(tape.gradient(loss, kernel), index, 5))
    np.testing.assert_allclose(found.ravel(), of_table.numpy()[index], rtol=1e-12)
    index[::3] = -1
    assert (np.asarray(summed(tf.ones((6, 4)), index, 5)).ravel()[::3] == 0).all()


@pytest.mark.parametrize("method", ["keep_zeros", "shared_weights"])
def test_a_model_that_was_not_prepared_is_noticed(model, method):
    with pytest.warns(methods.NoEffectWarning, match=f"^{method}: no kernel has "):
        tuned(model, method, OPTIMIZERS[0])


def test_a_layer_that_a_later_method_freezes():
    keras.utils.set_random_seed(0)
    start = models.build(
        "sprint_cnn", width_multiplier=0.0625, input_shape=(28, 28, 1), num_classes=10
    )
    sparse, _ = compress.sparsify(start, 0.5)
    chosen = [methods.build(name) for name in ("keep_zeros", "whitening")]
    settings = Settings(epochs=1, batch_size=50, learning_rate=1e-3)
    train = data.load("fashion_mini", "train[:100]")
    after = fit(sparse, train, settings=settings, methods=chosen, verbose=False).model
    for old, new in zip(kernels_of(sparse)[1:], kernels_of(after)[1:], strict=True):
        assert (new[old == 0] == 0).all()
    assert (kernels_of(after)[0] != 0).any(axis=(0, 1, 2)).all()  # the frozen one is whitening's


def test_a_sequential_model_that_is_rebuilt_on_the_way():
    """Its variables get other paths, and keep their places."""
    keras.utils.set_random_seed(0)
    start = keras.Sequential([
        keras.Input((28, 28, 1)), keras.layers.Conv2D(8, 3, name="conv"),
        keras.layers.BatchNormalization(), keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10),
    ])  # fmt: skip
    sparse, _ = compress.sparsify(start, 0.5)
    chosen = [
        methods.build("progressive_resizing", sizes=((0, 14), (1, 28))),
        methods.build("keep_zeros"),
    ]
    settings = Settings(epochs=2, batch_size=50, learning_rate=1e-2)
    train = data.load("fashion_mini", "train[:100]")
    after = fit(sparse, train, settings=settings, methods=chosen, verbose=False).model
    for old, new in zip(kernels_of(sparse), kernels_of(after), strict=True):
        assert (old == 0).any() and (new[old == 0] == 0).all() and (new != old).any()


@pytest.mark.parametrize("switched", [False, True])
def test_equal_weights_and_an_optimizer_that_mixes_them(model, switched):
    shared, _ = compress.cluster(model, 3)
    chosen = [methods.build("shared_weights")]
    if switched:
        after = dict(epoch=1, optimizer=MUON, learning_rate=0.1)
        chosen.append(methods.build("switch_optimizer", **after))
    settings = Settings(epochs=2, batch_size=50, optimizer=OPTIMIZERS[0] if switched else MUON)
    with pytest.raises(BadInput, match="shared_weights: convolution_muon mixes the weights"):
        fit(shared, data.load("fashion_mini", "train[:100]"), settings=settings, methods=chosen)


def test_a_mask_of_another_shape():
    with pytest.raises(BadInput, match="keep_zeros: a kernel is"):
        masked([tf.ones((2, 3))], [np.ones((2, 4), bool)])
