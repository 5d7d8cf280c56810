"""The experiment on 16 bits, end to end on a few images; its gradients against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfeffi.study import experiments
from tfeffi.study.experiments import precision

SETTINGS = {"epochs": 1, "batch_size": 8, "learning_rate": 0.05}
CONFIG = {
    "name": "precision", "experiment": "precision", "seeds": (0,),
    "model": {"name": "resnet_cifar", "depth": 8},
    "data": {"name": "fashion_mini", "test": "test[:16]"},
    "trainings": {
        "short": {"split": "train[:8]", "widths": (2,), "precisions": ("mixed_float16",),
                  "settings": SETTINGS},
    },
    "gradients": {"width": 2, "split": "train[:8]", "settings": SETTINGS, "images": 2,
                  "scales": (1, 2**15)},
}  # fmt: skip


def tiny(config, width):
    """In place of the config's network, which takes long to trace."""
    x = image = keras.Input((28, 28, 1), name="image")
    for i in range(2):
        x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False, name=f"conv{i}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "build", tiny)
        return experiments.run(CONFIG, tmp_path_factory.mktemp("precision"), verbose=False)


@pytest.fixture
def network():
    """Smooth, so that two runs of it differ by rounding only; its gradients span many exponents."""
    x = image = keras.Input((6, 6, 1), name="image")
    for i in range(2):
        x = keras.layers.Conv2D(3, 3, activation="tanh", name=f"conv{i}")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(4, name="logits")(x))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.random((5, 6, 6, 1), np.float32), rng.integers(0, 4, 5)


def test_the_network_of_a_width():
    assert precision.build(CONFIG, 2).output_shape == (None, 10)
    params = [precision.build(CONFIG, width).count_params() for width in (1, 2)]
    assert 3 < params[1] / params[0] < 4


def test_the_rows(result):
    names = [row["name"] for row in result.rows]
    assert names[0] == "width 2 short mixed_float16"
    assert names[1:] == [
        f"{kind} {what}"
        for what in ("float32", "scale 1", "scale 32768", "dynamic")
        for kind in ("weights", "activations")
    ]
    half = result.row("width 2 short mixed_float16")
    assert half["ratio_to"] == "width 2 short float32"
    assert half["loss_scale_mean"] >= 1 and half["skipped_steps_mean"] >= 0


def test_histogram_and_shares_are_of_the_same_gradients(result):
    for kind in ("weights", "activations"):
        row = result.row(f"{kind} float32")
        count, zeros = sum(row["counts"]), row["exact_zeros"]
        assert count + zeros == row["values"] and count > 0
        for scale in (0, 15):
            shares = result.row(f"{kind} scale {2**scale}")
            below = [
                n
                for i, n in enumerate(row["counts"])
                if row["exponent_low"] + i + scale < precision.SMALLEST_NORMAL
            ]
            lost = shares["cast_zero_share"] + shares["cast_subnormal_share"]
            assert lost == pytest.approx(sum(below) / count, abs=1e-3)  # what rounds up to 2⁻¹⁴


def test_the_dynamic_scale_leaves_gradients_finite(result):
    row = result.row("weights dynamic")
    assert row["overflow_share"] == 0 and "gradient_error" in row
    assert 1 <= row["scale"] <= 2**24 and row["scale"] == 2 ** row["scale_log2"]


def test_the_picture(result, tmp_path):
    precision.draw(result, tmp_path / "exponents.png")
    assert (tmp_path / "exponents.png").stat().st_size > 10_000


def test_gradients_of_weights_are_the_tape_s_and_of_the_logits_softmax_minus_label(network, batch):
    images, labels = batch
    found = precision.gradients(network, images, labels, ["conv0", "logits"], scale=8.0)
    with tf.GradientTape() as tape:
        logits = network(images)
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )
    kernels = [network.get_layer(name).kernel.value for name in ("conv0", "logits")]
    for mine, own in zip(found["weights"], tape.gradient(loss, kernels), strict=True):
        np.testing.assert_allclose(mine, 8 * own, rtol=1e-4, atol=1e-6)
    exact = 8 * (tf.nn.softmax(logits) - tf.one_hot(labels, 4)) / 5
    np.testing.assert_allclose(found["activations"][1], exact, rtol=1e-4, atol=1e-6)


def test_only_what_computes_in_float16_is_looked_at(network):
    exact, half = precision.twins(network)
    names = precision.in_float16(half)
    assert [name for name in names if "conv" in name] == ["conv0", "conv1"]
    assert "logits" not in names and precision.in_float16(exact) == []


def test_small_gradients_vanish_without_a_scale_and_come_back_with_one(network, batch):
    dense = network.get_layer("logits")
    dense.kernel.assign(dense.kernel * 1e-7)  # what reaches the convolutions is below 2⁻²⁴
    lost = precision.compared(network, *batch, scale=1.0)
    kept = precision.compared(network, *batch, scale=2.0**15)
    for kind in ("weights", "activations"):
        assert lost[kind]["zero_share"] > 0.5 > 0.05 > kept[kind]["zero_share"]
        assert lost[kind]["gradient_error"] > 10 * kept[kind]["gradient_error"]


def test_the_largest_scale_is_the_last_that_does_not_overflow(network, batch):
    scale = precision.largest_scale(network, *batch)
    assert 1 < scale < 2**24
    assert precision.compared(network, *batch, scale)["weights"]["overflow_share"] == 0
    assert precision.compared(network, *batch, 2 * scale)["weights"]["overflow_share"] > 0
    from_above = precision.largest_scale(network, *batch, start=4 * scale)
    assert from_above == scale
