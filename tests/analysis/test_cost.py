"""The cost counter against analytic formulas, published totals and sums of ones."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.layers import fuse_batch_normalization


def functional(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def products(layer, shape):
    """The oracle: ones times ones, summed without padding, counts every multiply-add."""
    layer.build((1, *shape))
    layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    return round(float(np.sum(layer(np.ones((1, *shape), "float32")), dtype="float64")))


@st.composite
def convolutions(draw):
    """A convolution's class, its arguments and the shape of its input."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    sizes = st.integers(1, 3)
    arguments = {
        "filters": groups * draw(st.integers(1, 3)),
        "kernel_size": draw(st.tuples(*[sizes] * rank)),
        "groups": groups,
        "use_bias": False,
    }
    steps = draw(st.tuples(*[sizes] * rank))
    arguments[draw(st.sampled_from(["strides", "dilation_rate"]))] = steps
    shape = (*draw(st.tuples(*[st.integers(7, 9)] * rank)), groups * draw(st.integers(1, 2)))
    kind = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1]
    return kind, arguments, shape


@settings(max_examples=30, deadline=None)
@given(convolutions())
def test_convolution_counts_every_product(case):
    kind, arguments, shape = case
    expected = products(kind(**arguments), shape)
    assert cost(functional(kind(**arguments), shape)).macs == expected


@settings(max_examples=20, deadline=None)
@given(convolutions())
def test_same_padding_counts_the_padded_positions(case):
    kind, arguments, shape = case
    rank = len(shape) - 1
    model = functional(kind(padding="same", **arguments), shape)
    strides = arguments.get("strides", (1,) * rank)
    dilation = arguments.get("dilation_rate", (1,) * rank)
    padded = [
        (-(-size // stride) - 1) * stride + (kernel - 1) * rate + 1
        for size, stride, kernel, rate in zip(
            shape[:-1], strides, arguments["kernel_size"], dilation, strict=True
        )
    ]
    assert cost(model).macs == products(kind(**arguments), (*padded, shape[-1]))


@settings(max_examples=20, deadline=None)
@given(convolutions())
def test_transposed_counts_every_product(case):
    kind, arguments, shape = case
    transposed = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    kind = transposed[len(shape) - 2]
    kept = ("filters", "kernel_size", "use_bias", "strides")
    arguments = {key: value for key, value in arguments.items() if key in kept}
    expected = products(kind(**arguments), shape)
    assert cost(functional(kind(**arguments), shape)).macs == expected


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    multiplier=st.integers(1, 3),
    channels=st.integers(1, 4),
    filters=st.integers(1, 5),
)
def test_depthwise_and_separable(rank, kernel, stride, multiplier, channels, filters):
    shape = (*(8, 7)[:rank], channels)
    same = {"strides": stride, "depth_multiplier": multiplier, "use_bias": False}
    depthwise = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)[rank - 1]
    pointwise = (layers.Conv1D, layers.Conv2D)[rank - 1](filters, 1, use_bias=False)
    separable = (layers.SeparableConv1D, layers.SeparableConv2D)[rank - 1]
    first = products(depthwise(kernel, **same), shape)
    assert cost(functional(depthwise(kernel, **same), shape)).macs == first
    between = depthwise(kernel, **same).compute_output_shape((1, *shape))[1:]
    second = products(pointwise, between)
    assert cost(functional(separable(filters, kernel, **same), shape)).macs == first + second


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 4, 6)])
def test_dense_on_any_rank(shape):
    assert cost(functional(layers.Dense(7), shape)).macs == products(
        layers.Dense(7, use_bias=False), shape
    )


@pytest.mark.parametrize(
    ("equation", "output", "shape"),
    [
        ("abc,cd->abd", (None, 8), (5, 6)),
        ("...x,xy->...y", 8, (5, 6)),
        ("abc,cde->abde", (None, 3, 4), (5, 6)),
        ("abcd,cde->abe", (None, 4), (5, 3, 7)),
    ],
)
def test_einsum_dense(equation, output, shape):
    layer = layers.EinsumDense(equation, output)
    expected = products(layers.EinsumDense(equation, output), shape)
    assert cost(functional(layer, shape)).macs == expected


def test_separable_formula_of_von_bachmann():
    """3×3, 3 -> 16 channels on 32²: 442 368 dense; K·I·(N²+L) per pixel when separable."""
    assert cost(functional(layers.Conv2D(16, 3, padding="same"), (32, 32, 3))).macs == 442_368
    separable = layers.SeparableConv2D(16, 3, padding="same")
    assert cost(functional(separable, (32, 32, 3))).macs == 32 * 32 * 3 * (9 + 16) == 76_800


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("MobileNet", 568_740_352, 4_253_864),
        ("MobileNetV2", 300_774_272, 3_538_984),
        ("VGG16", 15_470_264_320, 138_357_544),
    ],
)
def test_published_totals(name, macs, params):
    """MobileNet 569 M and MobileNetV2 300 M multiply-adds in their papers; VGG-16 15.5 G."""
    shape = (224, 224, 3)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape)
    counted = cost(model)
    assert (counted.macs, counted.params, counted.bytes) == (macs, params, 4 * params)
    assert sum(layer.params for layer in counted.layers) == params
    assert counted.uncounted == ()


def test_resnet50_of_keras_is_the_3_858_g_form():
    counted = cost(keras.applications.ResNet50(weights=None))
    assert (counted.macs, counted.params) == (3_857_973_248, 25_636_712)


def test_shared_layers_count_their_macs_a_call_and_their_params_once():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, shared(shared(shared(inputs))))
    counted = cost(model)
    assert counted.macs == 3 * 64 * 9 * 16
    assert counted.params == model.count_params() == 148
    (layer,) = (layer for layer in counted.layers if layer.name == "shared")
    assert (layer.kind, layer.macs, layer.params) == ("Conv2D", counted.macs, 148)
    assert layer.output_shape == (8, 8, 4)


def test_nested_models_shared_and_at_several_sizes():
    inner = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(3, 1)], name="inner")
    first, second = keras.Input((8, 8, 2)), keras.Input((4, 6, 2))
    outputs = [layers.GlobalMaxPooling2D()(inner(x)) for x in (first, second)]
    model = keras.Model([first, second], layers.Add()(outputs))
    counted = cost(model)
    assert counted.macs == (64 + 24) * 6
    assert counted.params == 9
    assert [layer.name for layer in counted.layers if layer.macs] == [
        f"inner/{inner.layers[0].name}"
    ]


@pytest.mark.parametrize("last", [True, False], ids=["output", "middle"])
@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("calls", [1, 3])
def test_functional_models_nested_in_functional_ones(calls, elsewhere, last):
    inputs = keras.Input((8, 8, 2))
    inner = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="conv")(inputs), name="in")
    if elsewhere:  # a call of another model comes first in the layer's own count
        inner(keras.Input((8, 8, 2)))
    x = inputs = keras.Input((8, 8, 2))
    for _ in range(calls):
        x = inner(x)
    model = keras.Model(inputs, x if last else layers.Flatten()(x))
    counted = cost(model)
    assert counted.macs == calls * 64 * 9 * 4
    assert counted.params == 38
    assert "in/conv" in {layer.name for layer in counted.layers}
    loaded = keras.Model.from_config(model.get_config())  # its nodes may be numbered anew
    assert cost(loaded).macs == counted.macs


def test_functional_models_in_sequential_and_operations_between_layers():
    inputs = keras.Input((8, 8, 2))
    block = keras.Model(inputs, 2.0 * layers.Conv2D(2, 3, padding="same")(inputs) + inputs)
    model = keras.Sequential([keras.Input((8, 8, 2)), block, layers.Flatten(), layers.Dense(5)])
    assert cost(model).macs == 64 * 9 * 4 + 128 * 5


def test_two_inputs_by_list_and_by_name():
    a, b = keras.Input((None, None, 3), name="a"), keras.Input((None, None, 1), name="b")
    x = [layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(t)) for t in (a, b)]
    model = keras.Model({"a": a, "b": b}, layers.Concatenate()(x))
    expected = 6 * 6 * 9 * 3 * 4 + 2 * 3 * 9 * 4
    assert cost(model, [(8, 8, 3), (4, 5, 1)]).macs == expected
    assert cost(model, {"b": (4, 5, 1), "a": (8, 8, 3)}).macs == expected


def test_open_shapes_are_settled_by_input_shape():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, padding="same")])
    assert cost(model, (4, 6, 1)).macs == 24 * 18
    assert cost(model, (8, 8, 1)).macs == 64 * 18
    with pytest.raises(BadInput, match=r"open shape \(None, None, 1\).*give input_shape"):
        cost(model)


def test_activation_bytes_are_the_outputs_of_all_calls():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(3, 1), layers.ReLU()])
    assert cost(model).activation_bytes == 4 * (48 + 48)


def test_time_distributed_and_spectral_normalization_count_what_they_wrap():
    wrapped = layers.TimeDistributed(layers.Conv2D(4, 3))
    assert cost(functional(wrapped, (5, 8, 8, 2))).macs == 5 * 36 * 18 * 4
    wrapped = layers.SpectralNormalization(layers.Conv2D(4, 3))
    assert cost(functional(wrapped, (8, 8, 2))).macs == 36 * 18 * 4


def test_channels_first():
    model = functional(layers.Conv2D(4, 3, data_format="channels_first"), (2, 8, 6))
    assert cost(model).macs == 6 * 4 * 18 * 4


def test_a_fused_batch_normalization_is_reported_as_one():
    model = functional(layers.BatchNormalization(name="bn"), (4, 4, 3))
    assert cost(fuse_batch_normalization(model)) == cost(model)


def test_a_model_built_by_its_first_call():
    model = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)])
    model(np.zeros((1, 6, 6, 1), "float32"))
    assert cost(model).macs == 16 * 18 + 32 * 3


def test_what_is_not_counted_is_named():
    model = functional(layers.LSTM(4, name="lstm"), (3, 2))
    assert cost(model).uncounted == ("lstm",)


def test_counting_leaves_the_model_alone():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(3, 1), layers.Flatten()])
    before = model.get_config(), model.count_params()
    cost(model, (4, 4, 1))
    assert (model.get_config(), model.count_params()) == before
    assert model.layers[0].output.shape == (None, 4, 4, 3)  # still called once


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Subclassed(name="mine"), None, '"mine" is subclassed'),
        (keras.Sequential([layers.Dense(2)], name="raw"), None, '"raw" is not built'),
        ("model.keras", None, "expected a keras.Model, got str"),
        (None, (8, 8, 1), "expected a keras.Model"),
        (functional(layers.Flatten(), (4, 4, 1)), (8, 8, 1), "does not fit input"),
        (functional(layers.Flatten(), (4, 4, 1)), "8x8", "is not a shape"),
        (functional(layers.Flatten(), (4, 4, 1)), (4, 0, 1), "is not a shape"),
        (functional(layers.Flatten(), (4, 4, 1)), [(4, 4, 1)] * 2, "2 input shapes for 1"),
        (functional(layers.Conv2D(1, 5), (None, None, 1)), (3, 3, 1), "does not fit model"),
    ],
)
def test_bad_input_says_what_to_do(model, shape, message):
    with pytest.raises(BadInput, match=message) as raised:
        cost(model, shape)
    assert "\n" not in str(raised.value)
