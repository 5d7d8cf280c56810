"""replace_convolutions: exact where the kernel has the structure, never dearer than before."""

import keras
import numpy as np
import pytest

import tfeffi
from tests.compress.cases import built, gap, images, kernels, plant
from tfeffi import cost, replace_convolutions
from tfeffi.errors import BadInput

NAMES = tuple(tfeffi.models.names())


def conv(shape, filters, size, **arguments):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Conv2D(filters, size, name="conv", **arguments)(image))


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_keeps_what_a_separable_kernel_computes(name):
    model = plant(built(name, 0.125, 16), "separable")
    small, report = replace_convolutions(model)
    assert gap(model, small, images(model)) <= 1e-5
    assert report.changed and report.after == cost(small)
    assert report.after.macs < report.before.macs and report.after.params < report.before.params
    met = {one.layer for one in (*report.changed, *report.skipped)}
    assert met >= {one.name for one in kernels(model) if type(one).__name__ == "Conv2D"}


@pytest.mark.parametrize(
    "name",
    ["mnist_classifier", "mnist_autoencoder", "resnet_cifar", "resnet_imagenet", "mobilenet_v2"],
)
def test_architectures_keep_what_a_1d_kernel_computes(name):
    model = plant(built(name, 0.25, 16), "spatial")
    small, report = replace_convolutions(model, kind="1d")
    wide_enough = [change for change in report.changed if "rank 1" not in change.after]
    assert wide_enough and report.after.macs < report.before.macs
    if name != "mnist_classifier":  # its first convolution has one channel: rank 2 does not save
        assert gap(model, small, images(model)) <= 1e-5


@pytest.mark.parametrize("kind", ["separable", "1d"])
@pytest.mark.parametrize("arguments", [{"strides": 2}, {"dilation_rate": 2, "padding": "same"}])
def test_geometry_bias_and_activation_are_kept(kind, arguments):
    model = conv(
        (13, 12, 16), 24, 3, bias_initializer="random_normal", activation="elu", **arguments
    )
    plant(model, {"1d": "spatial", "separable": "separable"}[kind])
    small, report = replace_convolutions(model, kind=kind)
    assert report.changed and gap(model, small, images(model)) <= 1e-5
    assert small.layers[-1].name == "conv" and small.layers[-1].use_bias
    assert not small.layers[-2].use_bias


def test_separable_cost_is_that_of_the_literature():
    # 3×3, 3 → 16 channels on 32×32.
    _, report = replace_convolutions(conv((32, 32, 3), 16, 3, padding="same"))
    assert (report.before.macs, report.after.macs) == (442_368, 76_800)
    # K·I·(N² + L): K=64, I=2, N=3, L=128.
    _, report = replace_convolutions(conv((5, 5, 64), 128, 3, padding="same"), rank=2)
    assert report.after.macs == 25 * 64 * 2 * (9 + 128)


@pytest.mark.parametrize(
    ("layer", "highest"),
    [("conv1", 4), ("conv2", 106), ("conv3", 99)],  # NKL/(L+K), but for VALID 7×7: NKL/(NK+L)
)
def test_1d_break_even_is_exact(layer, highest):
    model = tfeffi.models.build("mnist_classifier")
    others = [f"conv{i}" for i in (1, 2, 3) if f"conv{i}" != layer]
    _, report = replace_convolutions(model, kind="1d", rank=highest, ignore=others)
    assert [change.layer for change in report.changed] == [layer]
    assert report.after.macs < report.before.macs and report.after.params < report.before.params
    _, report = replace_convolutions(model, kind="1d", rank=highest + 1, ignore=others)
    assert report.changed == ()
    why = {one.layer: one.why for one in report.skipped}[layer]
    assert "would take" in why and f"rank {highest + 1}" in why


def test_what_a_valid_1d_layer_would_cost_is_told():
    model = tfeffi.models.build("mnist_classifier")
    _, report = replace_convolutions(model, kind="1d", rank=128, ignore=["conv1", "conv2"])
    assert "516,096 MACs" in report.skipped[-1].why and "401,408" in report.skipped[-1].why


def test_1d_width_is_a_share_of_break_even():
    model = conv((8, 8, 64), 64, 3, padding="same")  # break-even at 96
    _, half = replace_convolutions(model, kind="1d", multiple_of=1)
    _, quarter = replace_convolutions(model, kind="1d", rank=0.25)
    assert "rank 48" in half.changed[0].after and "rank 24" in quarter.changed[0].after


def test_separable_at_full_multiplier_would_lose_nothing_but_is_dearer():
    model = conv((6, 6, 8), 8, 3)
    same, report = replace_convolutions(model, rank=9)
    assert report.changed == () and "multiplier 9 would take" in report.skipped[0].why
    assert gap(model, same, images(model)) == 0


def test_a_closer_start_than_random():
    model = conv((10, 10, 16), 32, 3, activation="relu")
    x = images(model, 16)
    error = {
        start: gap(model, replace_convolutions(model, initialize=start)[0], x)
        for start in ("svd", "random")
    }
    assert error["svd"] < error["random"]


def test_mid_activation_stands_between():
    model = conv((9, 9, 16), 16, 3)
    for kind in ("separable", "1d"):
        small, report = replace_convolutions(model, kind=kind, mid_activation="relu")
        assert [layer.activation.__name__ for layer in small.layers[1:]] == ["relu", "linear"]
        assert report.settings["mid_activation"] == "relu"


def test_layers_without_the_structure_are_left_with_the_reason():
    image = keras.Input((9, 9, 16))
    x = keras.layers.Conv2D(16, 1, name="point")(image)
    x = keras.layers.Conv2D(16, (1, 3), name="row")(x)
    x = keras.layers.Conv2D(16, 3, strides=(1, 2), name="uneven")(x)
    model = keras.Model(image, keras.layers.Conv2D(16, 3, groups=4, name="grouped")(x))
    why = {one.layer: one.why for one in replace_convolutions(model)[1].skipped}
    assert "1×1" in why["point"] and "unequal strides" in why["uneven"]
    assert "4 groups" in why["grouped"] and "row" not in why
    why = {one.layer: one.why for one in replace_convolutions(model, kind="1d")[1].skipped}
    assert "1-D already" in why["row"] and "uneven" not in why


def test_the_result_trains_and_is_an_ordinary_keras_file(tmp_path):
    model = built("resnet8_mlperf_tiny", 0.5)
    small, _ = replace_convolutions(model, kind="1d", mid_activation="relu")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile("sgd", loss)
    x, before = images(model, 8), small.get_weights()
    small.train_on_batch(x, np.arange(8) % 7)
    assert all((a != b).any() for a, b in zip(before[:1], small.get_weights(), strict=False))
    small.save(tmp_path / "small.keras")
    assert gap(small, keras.models.load_model(tmp_path / "small.keras"), x) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "seperable"}, 'unknown kind "seperable"; did you mean "separable"'),
        ({"initialize": "zeros"}, 'unknown initialize "zeros"'),
        ({"rank": 0}, "rank=0 must be a whole number"),
        ({"rank": 0.5}, "rank=0.5 must be a whole number"),
        ({"rank": 1.5, "kind": "1d"}, "rank=1.5 must be a whole number from 1 or a share"),
        ({"multiple_of": 0}, "multiple_of=0"),
        ({"ignore": ["conv9"]}, 'layer "conv9" is not in the model'),
        ({"mid_activation": "rleu"}, "unknown mid_activation 'rleu'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        replace_convolutions(conv((9, 9, 16), 16, 3), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rank", "pair", "macs"),
    [
        (16, (16, 16), 64 * 16 + 9 * 16 * 16 + 16 * 96),
        (80, (64, 80), None),  # no wider than what goes in, and then it saves nothing
        (0.5, (40, 40), 64 * 40 + 9 * 40 * 40 + 40 * 96),  # of 69, rounded up
    ],
)
def test_a_bottleneck_is_as_wide_as_told(rank, pair, macs):
    model = conv((7, 7, 64), 96, 3, padding="same", use_bias=False)
    small, report = replace_convolutions(model, kind="bottleneck", rank=rank)
    if macs is None:
        assert report.changed == () and "ranks 64 and 80 would take" in report.skipped[0].why
        return
    assert f"1×1, 3×3, 1×1, ranks {pair[0]} and {pair[1]}, keeps" in report.changed[0].after
    assert report.after.macs == 49 * macs and small.count_params() == macs


def test_a_kernel_that_is_a_bottleneck_loses_nothing():
    model = conv((9, 8, 12), 16, 3, strides=2, bias_initializer="random_normal", activation="elu")
    random = np.random.default_rng(0)
    ends, core = (random.standard_normal(s) for s in ((12, 4), (3, 3, 4, 4)))
    kernel = np.einsum("ia,hwab,bo->hwio", ends, core, random.standard_normal((4, 16)))
    model.get_layer("conv").kernel.assign(kernel)
    small, _ = replace_convolutions(model, kind="bottleneck", rank=4)
    assert gap(model, small, images(model)) <= 1e-5
    bent, report = replace_convolutions(model, kind="bottleneck", rank=4, mid_activation="relu")
    assert report.settings["mid_activation"] == "relu"
    assert [one.activation.__name__ for one in bent.layers[1:]] == ["relu", "relu", "elu"]
