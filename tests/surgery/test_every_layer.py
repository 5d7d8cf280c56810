"""Every layer of keras.layers in a small model: channels go exactly, or stay for a reason.

What depends on what is found by moving one channel at a time and looking, without tfeffi.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import reindex

SHAPES = {2: (5,), 3: (6, 3), 4: (6, 6, 3), 5: (4, 4, 4, 2)}
WIDTH = 6
GONE = [1, 4]
KEPT = [0, 2, 3, 5]
ABSTRACT = "Layer Wrapper InputSpec InputLayer RNN GRUCell LSTMCell SimpleRNNCell StackedRNNCells"
NOT_CHANNELS = (  # they take words, numbers or waves, hold code, or cannot stand in a functional model
    "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup "
    "TextVectorization Embedding ReversibleEmbedding MelSpectrogram STFTSpectrogram "
    "MaxNumBoundingBoxes Equalization Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer"
)


def of(rank, *args, **kwargs):
    return rank, args, kwargs


def each(names, rank, *args, **kwargs):
    return dict.fromkeys(names.split(), of(rank, *args, **kwargs))


def by_rank(kind, *args, ranks=(1, 2, 3), after="", **kwargs):
    return {f"{kind}{n}D{after}": of(n + 2, *args, **kwargs) for n in ranks}


READS = {  # they sum over channels and make new ones
    "Dense": of(4, 6, "tanh"),
    **by_rank("Conv", 6, 2, dilation_rate=2, activation="tanh"),
    **by_rank("Conv", 6, 2, after="Transpose", strides=2),
    **by_rank("SeparableConv", 6, 3, ranks=(1, 2), depth_multiplier=2),
    "SpectralNormalization": of(4, layers.Conv2D(6, 3)),
    "TimeDistributed": of(5, layers.Conv2D(6, 3)),
}
PASSES = {
    **each("Add Subtract Multiply Average Maximum Minimum Concatenate", 4),
    **each("ReLU LeakyReLU ELU PReLU BatchNormalization Identity ActivityRegularization", 4),
    **each("Dropout AlphaDropout GaussianDropout GaussianNoise", 4, 0.3),
    **by_rank("SpatialDropout", 0.3),
    "Activation": of(4, "gelu"),
    "Softmax": of(4, axis=[1, 2]),
    "LayerNormalization": of(4, axis=[1, 2]),
    "UnitNormalization": of(4, axis=1),
    "GroupNormalization": of(4, WIDTH),
    "Normalization": of(4, mean=[*range(WIDTH)], variance=[*range(1, WIDTH + 1)]),
    "Rescaling": of(4, 0.3, 1.0),
    "Resizing": of(4, 9, 4),
    "CenterCrop": of(4, 3, 4),
    "Flatten": of(4),
    "Reshape": of(4, (36, WIDTH)),
    "Permute": of(4, (2, 1, 3)),
    "RepeatVector": of(2, 3),
    **by_rank("AveragePooling", 2),
    **by_rank("MaxPooling", 2),
    **by_rank("AdaptiveAveragePooling", 2),
    **by_rank("AdaptiveMaxPooling", 2),
    **by_rank("GlobalAveragePooling", keepdims=True),
    **by_rank("GlobalMaxPooling"),
    **by_rank("ZeroPadding", 1),
    **by_rank("Cropping", 1),
    **by_rank("UpSampling", 2),
    **by_rank("DepthwiseConv", 3, ranks=(1, 2), depth_multiplier=2),
}
PINS = {
    **each("Masking Attention AdditiveAttention RMSNormalization", 3),
    "Dot": of(3, axes=(1, 1)),
    "MultiHeadAttention": of(3, 2, 3),
    "GroupQueryAttention": of(3, 3, 2, 1),
    "EinsumDense": of(3, "abc,cd->abd", (None, 4)),
    **each("SimpleRNN LSTM GRU", 3, 4),
    "Bidirectional": of(3, layers.GRU(4)),
    "ConvLSTM1D": of(4, 4, 2),
    "ConvLSTM2D": of(5, 4, 2),
}
IMAGES = {
    **each("AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization CutMix", 4),
    **each("MixUp RandAugment RandomElasticTransform RandomErasing RandomFlip", 4),
    **each("RandomGaussianBlur RandomPerspective RandomRotation Solarization", 4, 0.1),
    **each("RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast", 4, 0.1),
    **each("RandomGrayscale RandomHue RandomInvert RandomSaturation RandomShear", 4, 0.1),
    "RandomPosterization": of(4, 4),
    **each("RandomSharpness RandomZoom", 4, 0.1),
    "RandomCrop": of(4, 4, 4),
    "RandomTranslation": of(4, 0.1, 0.1),
    "Pipeline": of(4, [layers.RandomFlip()]),
}
PAIRS = "Add Subtract Multiply Average Maximum Minimum Concatenate Dot Attention AdditiveAttention"
NOT_REBUILT = ("RandomShear",)  # Keras does not take its own config
TWICE = "MultiHeadAttention GroupQueryAttention"


def names(table):
    return [name for name in table if hasattr(layers, name)]


def build(name, spec, width=WIDTH):
    """Dense a -> the layer -> Dense b, on the last axis; where two meet, a2 is the other."""
    rank, args, kwargs = spec
    inputs = keras.Input(SHAPES[rank])
    x = first = layers.Dense(width, activation="tanh", name="a")(inputs)
    layer = getattr(layers, name)(*args, **kwargs, name="it")
    if name in PAIRS.split():
        x = layer([x, layers.Dense(WIDTH, activation="tanh", name="a2")(inputs)])
    else:
        x = layer(x, x) if name in TWICE.split() else layer(x)
    model = keras.Model(inputs, layers.Dense(2, name="b")(x))
    randomize(model, 3)
    return model, keras.Model(inputs, first), keras.Model(inputs, x)


def data(model):
    return np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype("float32")


def rows_of(model, inner, x, channels):
    """The channels of `inner`'s output that move with channels of "a"."""
    before = np.array(inner(x))
    bias = model.get_layer("a").bias
    value = np.array(bias)
    moved = value.copy()
    moved[channels] += 0.3
    bias.assign(moved)
    change = np.abs(np.array(inner(x)) - before).reshape(-1, before.shape[-1]).max(0)
    bias.assign(value)
    return np.flatnonzero(change)


def without_rows(model, rows):
    kernel = np.array(model.get_layer("b").kernel)
    kernel[rows] = 0
    model.get_layer("b").kernel.assign(kernel)


def test_every_class_is_in_one_table():
    every = {}
    for name, cls in vars(layers).items():
        if inspect.isclass(cls):
            every.setdefault(cls, set()).add(name)
    tables = [READS, PASSES, PINS, IMAGES, ABSTRACT.split(), NOT_CHANNELS.split(), ["ConvLSTM3D"]]
    listed = [name for table in tables for name in table]
    assert len(listed) == len(set(listed))
    assert not [aliases for aliases in every.values() if not aliases & set(listed)]


@pytest.mark.parametrize("name", names(PASSES))
def test_it_passes_channels_on(name):
    model, _, inner = build(name, PASSES[name])
    x = data(model)
    small, _ = reindex(model, {"a": KEPT})
    assert small.get_layer("a").units == len(KEPT)
    rows = rows_of(model, inner, x, GONE)
    assert not set(rows) & set(rows_of(model, inner, x, KEPT)), "the layer mixes channels"
    assert len(rows) and len(rows) + small.get_layer("b").kernel.shape[0] == inner.output.shape[-1]
    without_rows(model, rows)
    assert gap(model(x), small(x)) <= 1e-5


@pytest.mark.parametrize("name", names(READS))
def test_it_reads_channels_and_makes_new_ones(name):
    model, first, inner = build(name, READS[name])
    x = data(model)
    small, _ = reindex(model, {"a": KEPT, "it": [0, 2, 4, 5]})
    mask = np.ones(WIDTH, "float32")
    mask[GONE] = 0
    without_rows(model, [1, 3])
    masked = model.get_layer("b")(model.get_layer("it")(first(x) * mask))
    assert small.get_layer("b").kernel.shape[0] == 4
    assert gap(masked, small(x)) <= 1e-5
    assert len(rows_of(model, inner, x, [0])) == 6


@pytest.mark.parametrize("name", [*names(PINS), *names(IMAGES)])
def test_it_pins_and_says_why(name):
    model, *_ = build(name, {**PINS, **IMAGES}[name], width=3)  # some take colours alone
    with pytest.raises(BadInput, match=rf'must stay: "it" \({name}\) (?!has no rule)') as error:
        reindex(model, {"a": [0, 2]})
    assert "\n" not in str(error.value)
    if name in NOT_REBUILT:
        with pytest.raises(BadInput, match=rf'^surgery: Keras does not rebuild "it" \({name}\)'):
            reindex(model, {"a": [2, 1, 0][::-1]})
        return
    same, _ = reindex(model, {"a": range(3)})
    for one, other in zip(model.weights, same.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_embedding_makes_channels():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, WIDTH, name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="b")(layers.GlobalMaxPooling1D()(x)))
    randomize(model, 1)
    small, _ = reindex(model, {"a": KEPT})
    assert small.get_layer("a").output_dim == len(KEPT)
    without_rows(model, GONE)
    words = np.random.default_rng(0).integers(0, 11, (3, 7))
    assert gap(model(words), small(words)) <= 1e-5
