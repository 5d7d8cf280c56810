"""Tucker-2: exact at full ranks, never worse than the HOSVD, never above break-even."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.cases import built, gap, images, kernels
from tfeffi import Budget, cost, factorize
from tfeffi.compress import decompose
from tfeffi.compress.tucker import tucker
from tfeffi.errors import BadInput


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product(made):
    first, core, last = (np.float64(one) for one in made)
    return np.einsum("ia,hwab,bo->hwio", first[0, 0], core, last[0, 0])


def conv(inputs, outputs, size=3, **arguments):
    image = keras.Input((9, 9, inputs))
    layer = keras.layers.Conv2D(outputs, size, name="conv", **arguments)
    return keras.Model(image, layer(image))


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 7), st.integers(1, 9))
@settings(max_examples=25)
def test_full_ranks_lose_nothing(seed, size, inputs, outputs):
    kernel = drawn(seed, size, size, inputs, outputs)
    split = tucker(kernel)
    np.testing.assert_allclose(product(split.kernels(split.full_rank)), kernel, atol=1e-5)
    assert split.retained(split.full_rank) == pytest.approx(1)


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=30)
def test_iterations_never_lose_more_than_the_hosvd(seed, first, last):
    kernel = drawn(seed, 3, 3, 6, 8)
    split, total = tucker(kernel), np.sum(kernel.astype(np.float64) ** 2)
    left, right = split.inputs[:, :first], split.outputs[:, :last]
    hosvd = np.einsum(
        "hwio,ia,ja,ob,pb->hwjp", kernel, left, left, right, right, optimize=True
    )  # both modes projected
    lost = np.sum((kernel - hosvd) ** 2)
    assert 1 - split.retained((first, last)) == pytest.approx(lost / total, abs=1e-6)
    fitted = np.sum((kernel - product(split.kernels((first, last)))) ** 2)
    assert fitted <= lost * (1 + 1e-6) + 1e-6
    assert 1 - split.kept((first, last)) == pytest.approx(fitted / total, abs=1e-5)


def test_iterations_gain_where_the_modes_disagree():
    kernel = drawn(3, 3, 3, 12, 12)
    split = tucker(kernel)
    assert split.kept((3, 3)) > split.retained((3, 3)) + 0.01


def test_one_mode_at_full_rank_is_the_channel_split():
    kernel = drawn(1, 3, 3, 5, 8)
    split, matrix = tucker(kernel), decompose.channel_matrix(kernel)
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    for rank in range(1, 9):
        assert split.kept((5, rank)) == pytest.approx(values[:rank].sum() / values.sum(), abs=1e-6)


def test_costs_are_those_of_three_layers():
    """256 → 512 at (128, 256): SR₃ + k²R₃R₄ + TR₄ = 458,752 of 1,179,648, 2.57 times fewer."""
    model = conv(256, 512, padding="same", use_bias=False, kernel_initializer="zeros")
    small, report = factorize(model, method="tucker", ranks={"conv": (128, 256)})
    assert small.count_params() == 256 * 128 + 9 * 128 * 256 + 256 * 512 == 458_752
    assert report.after.macs == 81 * 458_752
    assert report.before.macs / report.after.macs == pytest.approx(2.57, abs=0.005)
    sizes = [layer.kernel_size for layer in small.layers[1:]]
    assert sizes == [(1, 1), (3, 3), (1, 1)]
    assert [layer.name for layer in small.layers[1:]] == ["conv_reduce", "conv_core", "conv"]


def test_what_saves_nothing_is_left_with_the_reason():
    model = conv(16, 16, padding="same")
    _, report = factorize(model, method="tucker", ranks={"conv": (16, 15)})
    assert report.changed == ()
    assert report.skipped[0].why == "asked for is rank 16 and 15, which saves nothing"
    image = keras.Input((9, 9, 1))
    tiny = keras.Model(image, keras.layers.Conv2D(1, 1, name="conv")(image))
    _, report = factorize(tiny, method="tucker")
    assert report.skipped[0].why == "no rank saves anything"


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.9])
def test_energy_is_kept(energy):
    model = conv(24, 32, padding="same")
    kernel = np.array(model.get_layer("conv").kernel)
    kernel *= 0.8 ** np.arange(24)[:, None] * 0.85 ** np.arange(32)
    model.get_layer("conv").kernel.assign(kernel)
    small, report = factorize(model, method="tucker", energy=energy, multiple_of=1)
    made = product([layer.kernel for layer in small.layers[1:]])
    assert 1 - np.sum((made - kernel) ** 2) / np.sum(kernel**2) >= energy - 1e-6
    first, last = report.settings["ranks"]["conv"]
    split = tucker(kernel)
    assert split.retained((first - 1, last)) < energy or split.retained((first, last - 1)) < energy
    _, rounded = factorize(model, method="tucker", energy=energy)
    assert rounded.settings["ranks"]["conv"] == [-(-first // 8) * 8, -(-last // 8) * 8]


@pytest.mark.parametrize(
    ("budget", "multiple_of"), [({"macs": 0.35}, 8), ({"macs": 0.5}, 1), ({"params": 0.4}, 8)]
)
def test_a_budget_is_met_and_used(budget, multiple_of):
    image = keras.Input((9, 9, 32))
    x = keras.layers.Conv2D(48, 3, name="one")(image)
    x = keras.layers.Conv2D(40, 3, strides=2, padding="same", name="two")(x)
    model = keras.Model(image, keras.layers.Conv2D(24, 1, name="three")(x))
    budget = Budget(**budget)
    small, report = factorize(model, method="tucker", budget=budget, multiple_of=multiple_of)
    limit = budget.limit(cost(model))
    assert 0.85 * limit <= budget.of(cost(small)) <= limit
    pairs = [pair for pair in report.settings["ranks"].values() if isinstance(pair, list)]
    assert pairs and all(rank % multiple_of == 0 for pair in pairs for rank in pair)
    assert "1×1, 3×3, 1×1, ranks" in report.table() and "keeps" in report.table()


def test_shares_and_single_numbers_are_for_both_modes():
    model = conv(32, 48, padding="same")
    _, report = factorize(model, method="tucker", ranks=0.25)
    assert report.settings["ranks"]["conv"] == [8, 16] and report.settings["rank_share"] == 0.25
    _, report = factorize(model, method="tucker", ranks={"conv": 9})
    assert report.settings["ranks"]["conv"] == [9, 9]


def test_evbmf_takes_the_rank_of_the_signal():
    model = conv(32, 48, padding="same", bias_initializer="random_normal")
    first, core, last = drawn(0, 32, 4), drawn(1, 3, 3, 4, 6), drawn(2, 6, 48)
    clean = np.einsum("ia,hwab,bo->hwio", first, core, last)
    model.get_layer("conv").kernel.assign(clean + 0.3 * drawn(3, 3, 3, 32, 48))
    small, report = factorize(model, method="tucker", ranks="evbmf", multiple_of=1)
    assert report.settings["ranks"]["conv"] == [4, 6]
    assert report.settings["rank_choice"] == "evbmf"
    made = product([layer.kernel for layer in small.layers[1:]])
    assert np.linalg.norm(made - clean) < 0.35 * np.linalg.norm(0.3 * drawn(3, 3, 3, 32, 48))
    _, report = factorize(model, method="channel", ranks="evbmf", multiple_of=1)
    assert report.settings["ranks"]["conv"] == 6
    model.get_layer("conv").kernel.assign(drawn(4, 3, 3, 32, 48))
    _, report = factorize(model, method="tucker", ranks="evbmf")
    assert "nothing in its kernel that stands out from noise" in report.skipped[0].why


@pytest.mark.parametrize(
    ("ranks", "method"),
    [({"conv": (3,)}, "tucker"), ({"conv": (0, 3)}, "tucker"), ({"conv": (3, 3)}, "channel")],
)
def test_ranks_that_are_none(ranks, method):
    with pytest.raises(BadInput, match='for "conv" must be a whole number from 1'):
        factorize(conv(8, 8), method=method, ranks=ranks)
    with pytest.raises(BadInput, match=r'share of the full rank .*, "evbmf", or'):
        factorize(conv(8, 8), ranks="evbfm")


def test_a_whole_model_at_full_ranks_computes_the_same():
    """Kernels of few channels each way, written over every convolution of a ResNet."""
    model = built("resnet8_mlperf_tiny", 0.5, 16)
    for layer in kernels(model):
        kernel = np.array(layer.kernel)
        if kernel.ndim == 4:
            layer.kernel.assign(product(tucker(kernel).kernels((1, 2))))
    small, report = factorize(model, method="tucker", energy=1 - 1e-10, multiple_of=1)
    assert len(report.changed) > 6 and report.after.macs < 0.5 * report.before.macs
    assert gap(model, small, images(model)) <= 1e-5
