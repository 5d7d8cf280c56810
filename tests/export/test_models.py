"""Every architecture of tfeffi.models exports every way, small, with fused batch normalization."""

import keras
import numpy as np
import pytest

import tfeffi
from tfeffi import layers, models
from tfeffi.export import ModelError, recipes

SMALL = {
    "block_cnn": {"input_shape": (16, 16, 3), "num_classes": 10, "widths": (8, 8, 16)},
    "mnist_autoencoder": {"width_multiplier": 0.25},
    "mnist_classifier": {"width_multiplier": 0.25},
    "mobilenet_v2": {"input_shape": (16, 16, 3), "num_classes": 10, "width_multiplier": 0.25},
    "resnet8_mlperf_tiny": {},
    "resnet_cifar": {"input_shape": (16, 16, 3), "num_classes": 10, "depth": 8, "width": 8},
    "resnet_imagenet": {
        "input_shape": (32, 32, 3), "num_classes": 10, "depth": 50, "width_multiplier": 0.125,
    },
    "resnet_short": {"input_shape": (16, 16, 3), "num_classes": 10, "width_multiplier": 0.5},
    "sprint_cnn": {"input_shape": (18, 18, 3), "num_classes": 10, "width_multiplier": 0.125},
    "vgg": {"input_shape": (16, 16, 3), "num_classes": 10, "depth": 8, "width_multiplier": 0.125},
}  # fmt: skip


def test_no_architecture_is_left_out():
    assert set(SMALL) == set(models.names())


@pytest.mark.parametrize(
    "quantize",
    (
        None, "int8", pytest.param("float16", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dynamic", "weights_int8", "dynamic_int4_blocks", "static_int4", "int16x8")
        ),
    ),
)  # fmt: skip
@pytest.mark.parametrize("name", SMALL)
def test_it_exports(name, quantize, tmp_path):
    keras.utils.set_random_seed(0)
    previous = keras.config.dtype_policy()
    calibrated = recipes.check(quantize) is not None
    keras.config.set_dtype_policy("mixed_bfloat16" if quantize == "int8" else "float32")
    try:
        model = layers.fuse_batch_normalization(models.build(name, **SMALL[name]))
    finally:
        keras.config.set_dtype_policy(previous)
    random = np.random.default_rng(0)
    images = random.random((50, *model.input_shape[1:]), np.float32)
    # The classes of an untrained classifier are near ties; its outputs are compared all the same.
    untrained_classes = calibrated and len(model.output_shape) == 2
    if name == "sprint_cnn" and quantize in ("static_int4", "int16x8"):
        with pytest.raises(tfeffi.BadInput, match=f"{quantize}: REDUCE_MAX would still compute"):
            tfeffi.export(model, tmp_path / "m.tflite", quantize=quantize, calibration=images)
        return
    if name == "mobilenet_v2" and quantize == "int16x8":
        # not trained; a trained one is in docs/quantization.md
        with pytest.raises(ModelError, match="activations hardly vary"):
            tfeffi.export(model, tmp_path / "m.tflite", quantize=quantize, calibration=images)
        assert not list(tmp_path.iterdir())
        return
    exported = tfeffi.export(
        model, tmp_path / "m.tflite", quantize=quantize, check_with=images,
        calibration=images if calibrated else None, integer_io=calibrated,
        min_agreement=0.0 if untrained_classes else None,
        tolerance=5.0 if "int4" in (quantize or "") else None,  # fresh weights amplify its rounding
    )  # fmt: skip
    left = {"MUL", "SUB", "RSQRT", "CAST", "QUANTIZE"} & set(exported.operators)
    # all is folded, but for what standardizes the images and normalizes after a pooling
    assert left <= ({"MUL", "SUB"} if name == "sprint_cnn" else set())
    kernels = sum(type(layer).__name__.find("Conv") >= 0 for layer in model.layers)
    assert sum(n for op, n in exported.operators.items() if "CONV" in op) == kernels
