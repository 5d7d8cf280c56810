"""Keras 3 models in tf_keras: the same outputs, the same weights on the way back, and no trace."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from benchmarks import applications
from tests.surgery.drawn import images, randomize
from tfeffi.compress.tfmot import from_tf_keras, to_tf_keras
from tfeffi.errors import BadInput
from tfeffi.layers import fuse_batch_normalization
from tfeffi.train.precision import recast

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"), reason="extra"
)

CLOSE = 1e-6  # of the largest output
FAST = {"MobileNetV2": 64, "MobileNetV3Small": 64}
# Their LayerScale has variables, and tf_keras has no such layer.
REFUSED = ("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge")


def apart(model, twin, x):
    ours, theirs = np.asarray(model(x, training=False)), np.asarray(twin(x, training=False))
    return np.abs(ours - theirs).max() / np.abs(ours).max()


def settle(model, x):
    """Moves random batch statistics halfway to those of the images: rounding does not add up."""
    found = [one for one in model.layers if isinstance(one, layers.BatchNormalization)]
    usual = [one.momentum for one in found]
    for one in found:
        one.momentum = 0.5
    model(x, training=True)
    for one, momentum in zip(found, usual, strict=True):
        one.momentum = momentum


def crosses(name, size):
    model = applications.built(name, size)
    x = applications.pictures(model)
    settle(model, x)
    twin = to_tf_keras(model)
    assert apart(model, twin, x) <= CLOSE
    made = from_tf_keras(twin, model)
    for ours, back in zip(model.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, back)


@pytest.mark.parametrize("name", FAST)
def test_small_applications_cross_and_come_back(name):
    crosses(name, FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(applications.names()) - set(REFUSED)))
def test_every_application_crosses_and_comes_back(name):
    crosses(name, 96)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "ConvNeXtTiny" else pytest.mark.slow) for n in REFUSED],
)
def test_the_others_are_refused_by_layer(name):
    with pytest.raises(BadInput, match=r'layer ".*layer_scale".*tf_keras has no .*LayerScale'):
        to_tf_keras(applications.built(name, 32))


def conv(filters, **arguments):
    return layers.Conv2D(filters, 3, padding="same", **arguments)


def nested(x):
    inner = keras.Input((8, 8, 6))
    y = layers.BatchNormalization(name="bn")(conv(6, name="conv")(inner))
    return keras.Model(inner, y, name="inner")(layers.ReLU()(conv(6, name="conv")(x)))


def sequential(x):
    return keras.Sequential([keras.Input((8, 8, 3)), conv(4), layers.LeakyReLU(0.3)])(x)


def shared(x):
    one = conv(3, name="shared")
    return layers.Concatenate()([one(x), one(one(x))])


def normalized(x):
    one = layers.Normalization()
    one.adapt(np.random.default_rng(0).normal(5, 3, (64, 8, 8, 3)).astype("float32"))
    return conv(4)(layers.Rescaling(1 / 127.5, -1)(one(x)))


def operations(x):
    y = conv(3)(x)
    y = ops.add(y, 3.0) * 0.5 + ops.relu6(y) * x
    return ops.mean(ops.concatenate([y, y - 1], axis=-1), axis=(1, 2))


def activations(x):
    y = conv(4, activation="hard_silu")(x)
    y = layers.Activation("hard_sigmoid")(conv(4, activation="relu6")(y))
    return layers.GlobalAveragePooling2D(keepdims=True)(layers.Activation("silu")(y))


def attention(x):
    rows = layers.Reshape((64, 4))(conv(4)(x))
    return layers.MultiHeadAttention(2, 2, name="query")(rows, rows)  # and its own "query" in it


def penalized(x):
    return conv(4, kernel_regularizer=keras.regularizers.L2(1e-3), bias_constraint="non_neg")(x)


KINDS = {
    "nested": nested,
    "sequential": sequential,
    "shared": shared,
    "normalized": normalized,
    "operations": operations,
    "activations": activations,
    "penalized": penalized,
    "separable": lambda x: layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu")(x),
    "depthwise": lambda x: layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x),
    "frozen": lambda x: layers.BatchNormalization(scale=False)(conv(4, trainable=False)(x)),
    "dropout": lambda x: layers.Dropout(0.5)(layers.SpatialDropout2D(0.5)(conv(4)(x))),
    "transposed": lambda x: layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x),
    "grouped": lambda x: layers.LayerNormalization()(layers.ZeroPadding2D(1)(conv(6, groups=3)(x))),
    "attention": lambda x: attention(x),
    "two_outputs": lambda x: [conv(2)(x), layers.Flatten()(x)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_cross_and_come_back(kind):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, KINDS[kind](inputs))
    if kind != "normalized":
        randomize(model, 0)
    x, twin = images(model), to_tf_keras(model)
    for ours, theirs in zip(
        keras.tree.flatten(model(x)), keras.tree.flatten(twin(x, training=False)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, back in zip(
        model.get_weights(), from_tf_keras(twin, model).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, back)


def classifier():
    inputs = x = keras.Input((8, 8, 3))
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(conv(4, name="conv")(x)))
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten()(x)))


def test_what_was_trained_there_comes_back():
    model, x = classifier(), np.random.default_rng(0).random((32, 8, 8, 3), np.float32)
    twin = to_tf_keras(model)
    twin.compile("sgd", "mse")
    twin.fit(x, np.ones((32, 3), np.float32), epochs=2, verbose=0)
    made = from_tf_keras(twin, model)
    assert apart(made, twin, x) <= CLOSE < apart(model, twin, x)


def test_what_is_still_being_clustered_is_refused_and_stripped_comes_back():
    from tfeffi.compress.tfmot.library import tf_keras, tfmot

    model, clustering = classifier(), tfmot().clustering.keras
    linear = clustering.CentroidInitialization.LINEAR

    def wrap(layer):
        if layer.name != "logits":
            return layer
        return clustering.cluster_weights(
            layer, number_of_clusters=4, cluster_centroids_init=linear
        )

    twin = tf_keras().models.clone_model(to_tf_keras(model), clone_function=wrap)
    with pytest.raises(BadInput, match=r'layer "logits" is being clustered.*strip_clustering'):
        from_tf_keras(twin, model)
    made = from_tf_keras(clustering.strip_clustering(twin), model)
    assert np.unique(made.get_layer("logits").kernel).size <= 4


def test_weights_of_another_shape_do_not_come_back():
    inputs = keras.Input((8, 8, 3))
    wide = keras.Model(inputs, layers.Conv2D(3, 4, name="conv")(inputs))
    tall = keras.Model(inputs, layers.Conv2D(3, (8, 2), name="conv")(inputs))  # as many weights
    with pytest.raises(BadInput, match='the weights of "conv" have the shapes') as error:
        from_tf_keras(to_tf_keras(tall), wide)
    assert "\n" not in str(error.value)


def test_low_precision_and_fused_layers_become_keras_s_own_in_float32():
    model = fuse_batch_normalization(recast(classifier(), "mixed_bfloat16"))
    made = from_tf_keras(to_tf_keras(model), model)
    assert type(made.get_layer("bn")).__module__.startswith("keras.")
    assert made.compute_dtype == "float32"


def test_another_model_does_not_come_back():
    inputs = keras.Input((8, 8, 3))
    other = to_tf_keras(keras.Model(inputs, conv(4, name="other")(inputs)))
    with pytest.raises(BadInput, match='has no "conv/kernel"'):
        from_tf_keras(other, classifier())


def test_what_cannot_cross_is_named():
    class Gain(layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), name="gain")

        def call(self, x):
            return x * self.gain

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    inputs = keras.Input((8, 8, 3))
    flat = layers.Reshape((8, 24))(inputs)
    refused = {
        '"gain".*tf_keras has no': Gain(name="gain")(inputs),
        '"both".*its layer is a': layers.Bidirectional(layers.LSTM(2), name="both")(flat),
    }
    for message, outputs in refused.items():
        with pytest.raises(BadInput, match=message) as error:
            to_tf_keras(keras.Model(inputs, outputs))
        assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="is subclassed"):
        to_tf_keras(Subclassed())


WATCHED = """
import os
before = dict(os.environ)
import tfeffi
assert dict(os.environ) == before, "import tfeffi"
import keras, tensorflow as tf
before = dict(os.environ)
from tfeffi.compress import tfmot
twin = tfmot.to_tf_keras(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)]))
assert dict(os.environ) == before, "the bridge"
assert type(twin).__module__.startswith("tf_keras.")
assert keras.version().startswith("3.") and tf.keras.layers.Conv2D is keras.layers.Conv2D
"""

WITHOUT = """
import sys
sys.modules[MISSING] = None
import keras
from tfeffi.compress import tfmot
from tfeffi.errors import BadInput
try:
    tfmot.to_tf_keras(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)]))
except BadInput as error:
    print(error)
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_process_keeps_its_environment_and_its_keras():
    run(WATCHED)


@pytest.mark.parametrize("package", ["tf_keras", "tensorflow_model_optimization"])
def test_a_missing_extra_is_one_line(package):
    out = run(WITHOUT.replace("MISSING", repr(package)))
    assert out.count("\n") == 1 and "pip install -e '.[tfmot]'" in out
