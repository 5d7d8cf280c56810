"""Progressive resizing: the same weights at every size, sizes at their epochs, costs counted."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.train.cases import convnet, images
from tfeffi import analysis, data, methods, models
from tfeffi.data import loading
from tfeffi.errors import BadInput
from tfeffi.methods.progressive_resizing import with_input_size
from tfeffi.train import Settings, fit

HOW = Settings(epochs=4, batch_size=32, learning_rate=0.01)


def pooled(size=8):
    inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("size", [(None, None), (8, 8), (12, 10)])
def test_the_same_model_takes_another_size(size):
    model = models.build("resnet_cifar", depth=8, width=4, input_shape=(16, 16, 3), num_classes=3)
    made = with_input_size(model, size)
    assert made.input_shape == (None, *size, 3)
    assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]
    for old, new in zip(model.variables, made.variables, strict=True):
        assert old is not new
        np.testing.assert_array_equal(old, new)
    back = with_input_size(made, (16, 16))
    x = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    np.testing.assert_allclose(back(x), model(x), atol=1e-6)


def test_a_model_within_the_model_takes_another_size_too():
    inner = pooled(16)
    inputs = keras.Input((16, 16, 1))
    pixels = inner(layers.Rescaling(2.0)(inputs))
    outputs = keras.Sequential([layers.Flatten(), layers.Dense(3)])(
        layers.Reshape((1, 1, 4))(pixels)
    )
    model = keras.Model(inputs, outputs)
    made = with_input_size(model, (None, None))
    x = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    np.testing.assert_allclose(made(x), model(x), atol=1e-6)
    assert made(x[:, :10, :12]).shape == (2, 3)


def test_early_stopping_counts_from_the_full_size_on():
    """A best epoch of small images would give back a model for any size, and end before the stages do."""
    resize = methods.build("progressive_resizing", sizes=[(0, 4), (3, 8)])
    how = Settings(epochs=6, batch_size=32, learning_rate=1e-9, early_stopping=1)
    made = fit(pooled(), images(), images(48, seed=1), how, methods=[resize], verbose=False)
    assert made.best_epoch >= 4 and made.model.input_shape == (None, 8, 8, 1)


def test_images_change_at_their_epochs_and_each_costs_its_own_macs():
    seen, model, train = [], pooled(), images()

    class Watch(methods.Method):
        def on_epoch_end(self, run):
            seen.append(run.images.images.shape[1:3])

    chosen = [Watch(), methods.build("progressive_resizing", sizes=[(0, 4), (1, 6), (3, 8)])]
    made = fit(model, train, train, HOW, methods=chosen, verbose=False)
    assert seen == [(4, 4), (6, 6), (6, 6), (8, 8)]
    any_size = with_input_size(model, (None, None))
    costs = [3 * analysis.cost(any_size, (*size, 1)).macs for size in seen]
    spent = np.diff([0] + [row["train_macs"] for row in made.history])
    np.testing.assert_array_equal(spent, [96 * cost for cost in costs])
    assert made.model.input_shape == (None, 8, 8, 1)
    assert all("validation_accuracy" in row for row in made.history)


def test_momentum_goes_on_across_a_change_of_size():
    """On images that are constant, the mean over positions, and so the step, is that of any size."""
    flat = images()
    flat.images[:] = flat.images[:, :1, :1]

    def weights(sizes):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1))
        x = layers.Conv2D(6, 1, activation="relu")(inputs)
        model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
        chosen = [methods.build("progressive_resizing", sizes=sizes)] if sizes else []
        made = fit(model, flat, settings=HOW, methods=chosen, verbose=False)
        return [np.array(v) for v in made.model.variables]

    for one, other in zip(weights(None), weights([(0, 4), (2, 8)]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_resized_images_are_made_once_and_keep_their_labels():
    train = images()
    small = data.resized(train, (4, 4))
    assert small is data.resized(train, (4, 4)) and data.resized(train, (8, 8)) is train
    assert small.images.shape == (96, 4, 4, 1) and small.images.dtype == np.uint8
    np.testing.assert_array_equal(small.labels, train.labels)
    means = train.images.mean(axis=(1, 2, 3)), small.images.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(*means, atol=6)


def test_many_images_are_resized_in_parts_and_stay_in_order(monkeypatch):
    many, resize = images(1000), loading.resize_numpy
    whole = resize(many.images, (5, 5))
    np.testing.assert_array_equal(data.resized(many, (5, 5)).images, whole)

    def failing(part, size):
        if len(part) < 256:  # the last one
            raise MemoryError("no room")
        return resize(part, size)

    monkeypatch.setattr(loading, "resize_numpy", failing)
    with pytest.raises(MemoryError, match="no room"):
        data.resized(many, (4, 4))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "must be pairs"),
        (24, "must be pairs"),
        ([4, 8], "must be pairs"),
        ([(0, 8)], "must be pairs .* two at least"),
        ([(1, 4), (2, 8)], "rise from epoch 0"),
        ([(0, 8), (2, 4)], "must be pairs"),
        ([(0, 4), (0, 8)], "must be pairs"),
        ([(0, 4.5), (1, 8)], "must be pairs"),
        ([(0, 4), (2, 7)], "the last size is 7, the images are 8x8"),
        ([(0, 4), (4, 8)], "the full size begins after epoch 4, the training has 4"),
    ],
)
def test_bad_sizes(sizes, message):
    with pytest.raises(BadInput, match=message):
        method = methods.build("progressive_resizing", sizes=sizes)
        fit(pooled(), images(), settings=HOW, methods=[method], verbose=False)


def test_a_network_that_counts_its_pixels_is_refused():
    with pytest.raises(BadInput, match="takes images of one size only"):
        with_input_size(convnet(), (None, None))
    with pytest.raises(BadInput, match="a layer's weights count the pixels"):
        with_input_size(convnet(), (4, 4))
