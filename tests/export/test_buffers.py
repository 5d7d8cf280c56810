"""What the kernels of a .tflite hold, against the Keras model that was exported."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

from tfeffi import export
from tfeffi.export import ModelError, buffers


def network():
    """Kernels of whole numbers, of which a third are zero."""
    inputs = x = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dense(64, name="dense")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(32, name="logits")(x))
    random = np.random.default_rng(0)
    for weight in model.trainable_variables:
        if weight.name == "kernel":
            weight.assign(random.integers(-1, 2, weight.shape).astype("float32"))
    return model


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_channels_zeros_and_values(quantize, tmp_path):
    model, path = network(), tmp_path / "m.tflite"
    images = np.random.default_rng(0).random((32, 8, 8, 2), np.float32)
    integer = {"calibration": images, "min_agreement": 0} if quantize == "int8" else {}
    export(model, path, quantize=quantize, tolerance=1.0, **integer)
    found = buffers.kernels(path)
    assert [one.operator for one in found] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED",
    ]  # fmt: skip
    assert [one.channels for one in found] == [6, 6, 64, 32]
    for one, name in zip(found, ("conv", "depthwise", "dense", "logits"), strict=True):
        kernel = np.asarray(model.get_layer(name).kernel)
        assert one.zeros == np.mean(kernel == 0)
        assert one.values == one.values_per_channel == 3 and np.prod(one.shape) == kernel.size
    wide = {None: "float32", "float16": "float16"}.get(quantize, "int8")
    assert found[2].dtype == wide


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    export(network(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="is damaged or cut short"):
        buffers.kernels(path)


def test_an_unknown_type_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    export(network(), path)
    file = flatbuffer_utils.read_model(str(path))
    for tensor in file.subgraphs[0].tensors:
        tensor.type = schema.TensorType.BFLOAT16
    flatbuffer_utils.write_model(file, str(path))
    with pytest.raises(
        ModelError, match=r"m\.tflite\": cannot read bfloat16 kernels, only float32"
    ):
        buffers.kernels(path)
