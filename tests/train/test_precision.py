"""Mixed precision after Micikevicius et al. 2017: what is 16 bits wide, and what the scale does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfeffi.study import machine
from tfeffi.train.precision import (
    MAX_SCALE,
    LossScale,
    NoScale,
    loss_scale_for,
    recast,
    warn_if_slow,
)

HALF = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def tiny(classes=4):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Dropout(0.2, name="drop")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x))


@pytest.mark.parametrize("precision", HALF)
def test_variables_stay_float32_and_only_the_logits_compute_in_it(precision):
    model = recast(tiny(), precision)
    assert {v.dtype for v in model.variables if "seed" not in v.path} == {"float32"}
    hidden = [layer for layer in model.layers[1:] if layer.name != "logits"]
    assert {layer.compute_dtype for layer in hidden} == {HALF[precision]}
    assert {layer.output.dtype for layer in hidden} == {HALF[precision]}
    assert model.output.dtype == "float32"


def test_a_softmax_at_the_end_takes_float32_logits():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="hidden")(inputs)
    x = keras.layers.Dense(3, name="logits")(x)
    model = recast(keras.Model(inputs, keras.layers.Softmax(name="p")(x)), "mixed_float16")
    assert model.get_layer("hidden").compute_dtype == "float16"
    assert model.get_layer("logits").compute_dtype == "float32"


def test_recast_there_and_back_is_the_same_model():
    model, images = tiny(), np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    model.get_layer("conv").trainable = False
    back = recast(recast(model, "mixed_bfloat16"), "float32")
    np.testing.assert_array_equal(model(images), back(images))
    assert [v.path for v in back.trainable_variables] == [v.path for v in model.trainable_variables]
    assert back.to_json() == model.to_json()


def gradients(model, images, scale):
    with tf.GradientTape() as tape:
        loss = scale.multiply(tf.reduce_mean(tf.square(model(images, training=False))))
    return scale.divide(tape.gradient(loss, [v.value for v in model.trainable_variables]))


def test_a_power_of_two_scales_exactly():
    model = recast(tiny(), "mixed_float16")
    images = np.random.default_rng(0).random((4, 8, 8, 1), "float32") + 1.0
    plain = gradients(model, images, LossScale(2.0**6))  # neither scale under- or overflows
    scaled = gradients(model, images, LossScale(2.0**9))
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a)


def test_an_infinite_gradient_skips_the_step_whole_and_halves_the_scale():
    weight = keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([weight])
    scale = LossScale(2.0**10)

    @tf.function
    def step(gradient):
        scale.step([gradient], lambda: optimizer.apply([gradient], [weight]))

    step(tf.constant([1.0, 1.0]))
    before = [np.array(v) for v in (weight, *optimizer.variables)]
    for bad in (np.inf, np.nan):
        step(tf.constant([1.0, bad]))
    for old, new in zip(before, (weight, *optimizer.variables), strict=True):
        np.testing.assert_array_equal(old, np.array(new))  # slots and iterations too
    assert scale.scale.numpy() == 2.0**8
    assert (scale.good_steps.numpy(), scale.skipped_steps.numpy()) == (0, 2)


def test_the_scale_doubles_after_so_many_good_steps_and_is_clamped():
    scale = LossScale(2.0**22, growth_steps=3)
    seen = []
    for _ in range(9):
        scale.step([tf.constant(1.0)], lambda: None)
        seen.append(np.log2(scale.scale.numpy()))
    assert seen == [22, 22, 23, 23, 23, 24, 24, 24, 24]
    assert scale.scale.numpy() == MAX_SCALE
    for _ in range(40):
        scale.step([tf.constant(np.inf)], lambda: None)
    assert scale.scale.numpy() == 1.0
    assert scale.stuck_steps.numpy() == 40 - 24


def test_small_gradients_survive_float16_only_when_scaled():
    weight = tf.Variable(1.0)

    def gradient(scale):
        with tf.GradientTape() as tape:
            loss = scale.multiply(tf.cast(tf.cast(weight, tf.float16), tf.float32) * 1e-8)
        return scale.divide([tape.gradient(loss, weight)])[0].numpy()

    assert gradient(LossScale(1.0)) == 0.0
    assert gradient(LossScale(2.0**15)) == pytest.approx(1e-8, rel=2**-10)


def test_master_weights_keep_what_float16_loses():
    optimizer = keras.optimizers.SGD(1.0)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="mixed_float16")
    layer.build((None, 1))
    optimizer.build(layer.trainable_variables)
    half, update = np.float16(1.0), 2.0**-12

    @tf.function
    def steps():
        for _ in tf.range(4096):
            optimizer.apply([tf.constant([[-update]])], layer.trainable_variables)

    steps()
    for _ in range(4096):
        half = np.float16(half + np.float16(update))
    assert half == 1.0
    assert np.array(layer.kernel) == 2.0


def test_only_float16_is_scaled():
    assert isinstance(loss_scale_for("mixed_bfloat16", "dynamic"), NoScale)
    assert isinstance(loss_scale_for("float32", 8.0), NoScale)
    assert not loss_scale_for("mixed_float16", 8.0).dynamic


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU has what CPUs lack")
def test_sixteen_bits_that_a_cpu_has_no_convolutions_for_are_warned_of(recwarn, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # nothing about oneDNN
    warn_if_slow("float32")
    assert not recwarn
    with pytest.warns(UserWarning, match='"mixed_float16" takes many times as long'):
        warn_if_slow("mixed_float16")
    warn_if_slow("mixed_bfloat16")
    features = machine.hardware()["cpu_features"]
    narrow = "avx2" in features and "avx512f" not in features
    assert len(recwarn) == int(narrow)
