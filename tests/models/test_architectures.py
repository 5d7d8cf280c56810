"""Every architecture: published totals, any size, names, files, LiteRT."""

import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi import models
from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.models import sprint_cnn

CLASSIFIERS = tuple(name for name in models.names() if name != "mnist_autoencoder")
RGB = {"input_shape": (32, 32, 3), "num_classes": 10}
IMAGENET = {"input_shape": (224, 224, 3), "num_classes": 1000}


def built(name, input_shape=(16, 16, 3), num_classes=5, width_multiplier=0.125):
    """A narrow model of this architecture."""
    arguments = {"input_shape": input_shape, "width_multiplier": width_multiplier}
    if name in CLASSIFIERS:
        arguments["num_classes"] = num_classes
    if name == "resnet_imagenet":
        arguments["depth"] = 34  # half the layers of 50: half the time
    return models.build(name, **arguments)


@pytest.fixture(scope="module", params=models.names())
def model(request):
    """One narrow model of each architecture, for tests that leave it as it is."""
    return built(request.param)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "arguments", "macs", "params"),
    [
        # Çallı table 2.2, layer by layer: methods.md section 17.
        ("mnist_classifier", {}, 627_200 + 10_035_200 + 401_408 + 1_280, 454_922),
        # MLPerf Tiny: 78 666 parameters, 12.50 M MACs.
        ("resnet8_mlperf_tiny", {}, 12_501_632, 78_666),
        ("resnet_short", RGB, 5_603_648, 40_666),
        # + 8·8 positions of 1x1 convolutions from 32 to 80, two of its scales, and 10 wider logits
        (
            "resnet_short",
            {**RGB, "head": 80},
            5_603_648 + 64 * 32 * 80 + 48 * 10,
            40_666 + 32 * 80 + 4 * 80 + 48 * 10,
        ),
        # keras.applications.MobileNetV2, counted in tests/analysis.
        ("mobilenet_v2", {**IMAGENET, "reductions": 5}, 300_774_272, 3_538_984),
    ],
)
def test_published_totals(name, arguments, macs, params):
    counted = cost(models.build(name, **arguments))
    assert (counted.macs, counted.params) == (macs, params)


def test_short_resnets_without_shortcuts():
    """They add nothing; parameters and multiply-adds stay."""
    counts = {}
    for shortcuts in (True, (False, False, True), False):
        model = models.build("resnet_short", **RGB, shortcuts=shortcuts)
        adds = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
        counts[shortcuts] = adds, cost(model).macs, cost(model).params
    assert [len(adds) for adds, *_ in counts.values()] == [2, 1, 0]
    assert counts[(False, False, True)][0] == ["stage3_block1_add"]
    assert len({rest for _, *rest in map(tuple, counts.values()) for rest in [tuple(rest)]}) == 1


@pytest.mark.parametrize(
    ("depth", "stride_in", "macs", "params"),
    [
        (34, "3x3", 3.664e9, 21_797_672),
        (50, "1x1", 3.858e9, 25_557_032),
        (50, "3x3", 4.089e9, 25_557_032),
    ],
)
def test_resnets_of_imagenet(depth, stride_in, macs, params):
    """Trainable parameters; MACs to the printed digits (methods.md section 17)."""
    model = models.build("resnet_imagenet", depth=depth, stride_in=stride_in)
    assert round(cost(model).macs / 1e6) == round(macs / 1e6)
    assert trainable(model) == params


@pytest.mark.parametrize(
    ("depth", "block"),
    [(8, "basic"), (20, "basic"), (32, "basic"), (50, "basic"), (20, "bottleneck")],
)
def test_depth_counts_the_weighted_layers_without_shortcuts(depth, block):
    model = models.build("resnet_cifar", depth=depth, block=block, width=4, **RGB)
    weighted = (
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
    )
    assert sum("shortcut" not in layer.name for layer in weighted) == depth


def test_resnet_20_by_formula():
    """Stem, 18 convolutions, two projections, dense: no biases but the logits'."""
    model = models.build("resnet_cifar", depth=20, **RGB)
    kernels = 27 * 16 + 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    kernels += 16 * 32 + 32 * 64
    gammas_and_betas = 2 * (7 * 16 + 7 * 32 + 7 * 64)
    assert trainable(model) == kernels + gammas_and_betas + 650 == 272_474


def test_vgg_16_has_the_13_convolutions_of_column_d():
    """14 714 688 parameters in the paper's convolutions, 4 224 of them biases."""
    model = models.build("vgg", depth=16, **RGB)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 13
    assert sum(layer.count_params() for layer in convolutions) == 14_714_688 - 4_224


@pytest.mark.parametrize("multiplier", [0.35, 1.4])
def test_mobilenet_v2_at_keras_widths(multiplier):
    ours = models.build("mobilenet_v2", reductions=5, width_multiplier=multiplier, **IMAGENET)
    keras_own = keras.applications.MobileNetV2(weights=None, alpha=multiplier)
    assert cost(ours).macs == cost(keras_own).macs
    assert ours.count_params() == keras_own.count_params()


def test_autoencoder_of_table_2_1():
    model = models.build("mnist_autoencoder", widths=[4, 16, 4])
    shapes = [
        layer.output.shape[1:]
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose))
    ]
    assert shapes == [(14, 14, 4), (7, 7, 16), (14, 14, 4), (28, 28, 1)]
    assert model.output_names == ["decoded"]


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(models.names()),
    input_shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    num_classes=st.integers(1, 12),
)
def test_any_size_and_any_number_of_classes(name, input_shape, num_classes):
    if name == "sprint_cnn" and min(input_shape[:2]) < sprint_cnn.SMALLEST:
        with pytest.raises(BadInput, match="9 pixels a side"):
            built(name, input_shape, num_classes)
        return
    model = built(name, input_shape, num_classes)
    outputs = model(np.ones((2, *input_shape), "float32"), training=False)
    expected = (num_classes,) if name in CLASSIFIERS else input_shape
    assert tuple(outputs.shape) == (2, *expected)
    assert np.isfinite(outputs).all()


def test_layers_have_names_of_their_own(model):
    """No name that Keras made up; first the image, last the output."""
    names = [layer.name for layer in model.layers]
    made_up = re.compile(r"(conv2d|batch_normalization|re_lu|add|dense|input_layer|.*2d)(_\d+)?")
    assert not [layer for layer in names if made_up.fullmatch(layer)]
    assert names[0] == "image"
    assert names[-1] == ("decoded" if model.name == "mnist_autoencoder" else "logits")


def test_layers_are_named_alike_at_every_build(model):
    again = model.__class__.from_config(model.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    names = [[layer.name for layer in built("vgg").layers] for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["mnist_autoencoder", "resnet_cifar", "mnist_classifier"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_outputs_are_float32_under_every_policy(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = built(name)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.layers[-1].compute_dtype == "float32"
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")
    assert model.output.dtype == "float32"
    assert model.input.dtype == "float32"


@pytest.mark.parametrize("name", models.names())
def test_width_multiplier_scales_every_layer(name):
    narrow, wide = (built(name, width_multiplier=scale) for scale in (0.5, 1.0))
    ratio = cost(wide).macs / cost(narrow).macs
    assert 2.5 < ratio < 4.2
    assert len(narrow.layers) == len(wide.layers)


def test_a_model_survives_its_file(model, tmp_path):
    images = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(images, training=False), loaded(images, training=False))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


def test_converts_to_litert_with_builtin_operators_only(model):
    """The converter fails on others; the file computes what Keras computes."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    weights = [
        [v.numpy() for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]  # as constants: the converter leaves Keras's variables uninitialized
    call = tf.function(lambda image: model.stateless_call(*weights, image, training=False)[0])
    traced = call.get_concrete_function(tf.TensorSpec((1, 16, 16, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], call)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    image = np.random.default_rng(0).random((1, 16, 16, 3), "float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(outputs, model(image, training=False), rtol=1e-4, atol=1e-5)
