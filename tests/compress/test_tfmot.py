"""Training in tf_keras: zeros, shared values and int8, each kept by what comes after it."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

from tfeffi.compress import cluster, sparsify
from tfeffi.compress.kernels import find
from tfeffi.compress.tfmot import cluster_weights, prune_magnitude, quantize_aware
from tfeffi.errors import BadInput
from tfeffi.export import buffers, flatbuffer

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"), reason="needs the extra tfmot"
)

SHORT = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3}


def network(size=8):
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = y = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(8, 3, padding="same", name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Add(name="add")([x, y]))
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def data(count=64):
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = 0.3 * random.random((count, 8, 8, 3)) + 0.3 * labels[:, None, None, None]
    return images.astype("float32"), labels


def zeros(model):
    return {k.name: float(np.mean(k.values == 0)) for k in find(model, (), "test")[0]}


def values(model):
    return {k.name: np.unique(k.values).size for k in find(model, (), "test")[0]}


@pytest.fixture(scope="module")
def sparse():
    return sparsify(network(), 0.5, scope="layer")[0]


@pytest.fixture(scope="module")
def both():
    return cluster(sparsify(network(), 0.5, scope="layer")[0], 3, preserve_sparsity=True)[0]


def test_magnitude_pruning_reaches_its_sparsity():
    model = network()
    before = [weight.copy() for weight in model.get_weights()]
    made, report = prune_magnitude(model, data(), sparsity=0.75, ignore=["logits"], **SHORT)
    found = zeros(made)
    assert found.pop("logits") == 0 and list(found.values()) == pytest.approx(
        [0.75, 0.75], abs=0.01
    )
    assert type(made).__module__.startswith("keras.") and report.method == "tfmot_prune"
    assert report.settings["zipped_bytes"] < report.settings["zipped_bytes_before"]
    assert "logits" in [one.layer for one in report.skipped]
    for ours, same in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, same)


def test_pruning_keeps_shared_values(both):
    made, report = prune_magnitude(both, data(), sparsity=0.6, **SHORT)
    assert all(count <= 8 for count in values(made).values()) and "Not kept" not in report.note
    assert all(now >= 0.5 for now in zeros(made).values())


def test_clustering_leaves_few_values_and_the_zeros(sparse):
    made, report = cluster_weights(sparse, data(), clusters=8, **SHORT)
    assert all(count <= 8 for count in values(made).values())
    assert all(now >= before for now, before in zip(
        zeros(made).values(), zeros(sparse).values(), strict=True
    ))  # fmt: skip
    assert "Not kept" not in report.note


def test_clustering_that_may_not_keep_zeros_says_so(sparse):
    made, report = cluster_weights(sparse, data(), clusters=2, preserve_sparsity=False, **SHORT)
    assert all(count <= 2 for count in values(made).values())
    assert zeros(made)["conv2"] < 0.5 and 'Not kept, zeros from before: "conv"' in report.note


def with_a_depthwise():
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="small")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def test_clustering_holds_zeros_and_shared_values_in_kernels_that_it_leaves_alone():
    model = sparsify(with_a_depthwise(), 0.5, scope="layer")[0]
    model = cluster(model, 2, preserve_sparsity=True)[0]
    made, report = cluster_weights(model, data(), clusters=64, ignore=["logits"], **SHORT)
    before, after, few = zeros(model), zeros(made), values(made)
    for name in ("depthwise", "logits"):
        assert after[name] == before[name] >= 0.5 and few[name] <= 4, name
        assert f'"{name}"' not in report.note


def test_a_kernel_with_no_more_weights_than_clusters_keeps_its_zeros():
    model = sparsify(network(), 0.5, scope="layer")[0]
    made, _ = cluster_weights(model, data(), clusters=24, **SHORT)  # the dense layer has 24
    assert zeros(made)["logits"] == zeros(model)["logits"] == 0.5
    assert any((a != b).any() for a, b in zip(model.get_weights(), made.get_weights(), strict=True))


def test_a_frozen_layer_is_skipped_as_such():
    model = with_a_depthwise()
    model.get_layer("conv").trainable = False
    _, report = prune_magnitude(model, data(), sparsity=0.5, **SHORT)
    assert {one.layer: one.why for one in report.skipped} == {
        "conv": "is not trainable", "depthwise": "tfmot wraps no such layer",
    }  # fmt: skip


def test_quantization_keeps_zeros_and_shared_values_in_the_file(both, tmp_path):
    path = tmp_path / "m.tflite"
    made, report = quantize_aware(
        both, data(), tflite=path, integer_io=True, min_agreement=0.5, **SHORT
    )
    assert zeros(made) == zeros(both) and not report.note
    assert all(count <= 8 for count in values(made).values())
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(made.get_weights(), both.get_weights(), strict=True)
    )
    found = buffers.kernels(path)
    assert [one.channels for one in found] == [8, 8, 3]
    assert all(one.dtype == "int8" and one.values_per_channel <= 8 for one in found)
    assert all(one.zeros >= 0.49 for one in found)
    contents = flatbuffer.inspect(path)
    assert {one.dtype for one in (*contents.inputs, *contents.outputs)} == {"int8"}
    assert report.settings["tflite_bytes"] == path.stat().st_size
    with pytest.raises(BadInput, match="exists already"):
        quantize_aware(both, data(), tflite=path)


def test_of_large_images_fewer_are_compared_with_the_file_as_in_export(tmp_path):
    inputs = keras.Input((224, 224, 3))
    x = layers.Conv2D(4, 16, strides=16, activation="relu", name="conv")(inputs)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    small, labels = data(40)
    images = small.repeat(28, axis=1).repeat(28, axis=2)
    path = tmp_path / "m.tflite"
    report = quantize_aware(model, (images, labels), tflite=path, min_agreement=0, **SHORT)[1]
    assert report.settings["checked_images"] == 33  # five million values


def named(layer):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layer(x))))


def twice():
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(conv(conv(inputs)))))


UNKNOWN = {
    'does not know "twofold" \\(Multiply\\)': lambda: named(
        lambda x: layers.Multiply(name="twofold")([x, x])
    ),
    'does not know "up" \\(PReLU\\)': lambda: named(layers.PReLU(name="up")),
    'layer "conv" is called more than once': twice,
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_the_scheme_does_not_know_is_named(message, tmp_path):
    with pytest.raises(BadInput, match=message) as error:
        quantize_aware(UNKNOWN[message](), data(), tflite=tmp_path / "m.tflite", **SHORT)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


images, labels = data()
BAD = {
    "sparsity=1.0 must be a fraction": (prune_magnitude, {"sparsity": 1.0}),
    "sparsity=-0.1 must be a fraction": (prune_magnitude, {"sparsity": -0.1}),
    "clusters=1 must be a whole number": (cluster_weights, {"clusters": 1}),
    "epochs=0; give a whole number": (quantize_aware, {"epochs": 0}),
    "learning_rate=-1; give a number above 0": (quantize_aware, {"learning_rate": -1}),
    "have no labels|has no labels": (quantize_aware, {"training_data": images}),
    "labels must be whole numbers from 0 to 2": (
        prune_magnitude, {"training_data": (images, labels + 1)},
    ),
    "fewer than 65 training images": (cluster_weights, {"batch_size": 65}),
    "must end in .tflite": (quantize_aware, {"tflite": "m.keras"}),
    'layer "con" is not in the model': (cluster_weights, {"ignore": ["con"]}),
    "seed=-1; give a whole number from 0": (quantize_aware, {"seed": -1}),
    "min_agreement 7.0 must be a fraction": (quantize_aware, {"min_agreement": 7.0}),
    "the open shape .*; rebuild it for images of one": (quantize_aware, {"model": network(None)}),
    "gives .* it trains classifiers": (
        quantize_aware, {"model": keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 3)])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line(message):
    function, arguments = BAD[message]
    given = {"model": network(), "training_data": data(), **arguments}
    with pytest.raises(BadInput, match=message) as error:
        function(given.pop("model"), given.pop("training_data"), **given)
    assert "\n" not in str(error.value)
