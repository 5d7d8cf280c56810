"""The spatial split on data: closer in its responses than the split of the weights, always."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.cases import gap, images
from tfeffi import Budget, factorize
from tfeffi.compress import decompose
from tfeffi.compress.reconstruct import reconstruction


def correlated(seed, count, size, decay=0.9):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, size)) @ (
        random.standard_normal((size, size)).T * decay ** np.arange(size)[:, None]
    )


def product(shape, left, right):
    vertical, horizontal = decompose.spatial_kernels(shape, left, right)
    return np.einsum("hicr,wro->hwco", vertical, horizontal[0])


@given(st.integers(0, 99), st.integers(1, 8), st.sampled_from([0.7, 0.95, 1.0]))
@settings(max_examples=20)
def test_responses_lose_less_than_with_the_split_of_the_weights(seed, rank, decay):
    kernel = np.random.default_rng(seed).standard_normal((3, 2, 5, 7))
    patches = correlated(seed, 300, 30, decay)
    split = reconstruction(kernel, patches.T @ patches / 300, None, 10)
    plain = product(kernel.shape, *decompose.low_rank(split.matrix).cut(rank))
    fitted = product(kernel.shape, *split.cut(rank))
    lost = [np.sum((patches @ (kernel - k).reshape(30, 7)) ** 2) / 300 for k in (plain, fitted)]
    assert lost[1] < lost[0]
    assert 1 - split.kept(rank) == pytest.approx(lost[1] / split.total, rel=1e-3, abs=1e-6)
    assert (
        split.retained(rank) <= split.kept(rank) + 1e-6
    )  # what the rank was chosen by is no promise
    kept = [split.retained(r) for r in range(1, 11)]
    assert kept == sorted(kept)


def test_white_patches_leave_the_split_of_the_weights():
    """With C = I the error is that of the kernel, which the singular values already minimise."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 6))
    split = reconstruction(kernel, np.eye(36), None, 8)
    plain = decompose.low_rank(split.matrix)
    for rank in (1, 4, 8):
        assert split.kept(rank) == pytest.approx(plain.retained(rank), abs=1e-6)
        made = product(kernel.shape, *split.cut(rank))
        np.testing.assert_allclose(
            made, product(kernel.shape, *plain.cut(rank)), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("silent", [True, False])
def test_what_the_data_never_shows_is_left_as_it_was(silent):
    """Fewer patches than places in a patch: C is singular, and the kernels must stay finite."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 6))
    patches = np.zeros((4, 72)) if silent else correlated(1, 4, 72)
    split = reconstruction(kernel, patches.T @ patches / 4, None, 6)
    left, right = split.cut(3)
    assert np.isfinite(left).all() and np.isfinite(right).all()
    assert np.abs(left).max() < 100 and 0 <= split.kept(3) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"strides": 2},
        {"padding": "same", "use_bias": False},
        {"dilation_rate": 2, "padding": "same"},
    ],
)
def test_on_its_data_the_data_aware_convolution_is_closer(arguments):
    image = keras.Input((12, 12, 6))
    model = keras.Model(image, keras.layers.Conv2D(16, 3, name="conv", **arguments)(image))
    x = images(model, 40) * np.float32([1, 0.1, 3, 0.2, 0.5, 1]) + 1
    small = {
        d is None: factorize(model, method="spatial", ranks={"conv": 4}, data=d) for d in (None, x)
    }
    y = model(x).numpy()
    aware, plain = (np.linalg.norm(small[key][0](x).numpy() - y) for key in (False, True))
    assert aware < 0.9 * plain
    centered = y - y.mean(axis=(0, 1, 2)) if arguments.get("use_bias", True) else y
    kept = float(small[False][1].changed[0].after.split("keeps ")[1].removesuffix(" %"))
    assert 1 - (aware / np.linalg.norm(centered)) ** 2 == pytest.approx(kept / 100, abs=2e-3)


def test_svd_takes_whichever_of_the_two_is_cheaper_on_data():
    image = keras.Input((8, 8, 6))
    x = keras.layers.Conv2D(16, 3, padding="same", name="one")(image)
    model = keras.Model(image, keras.layers.Conv2D(12, (3, 5), strides=2, name="two")(x))
    x = images(model, 10)
    _, both = factorize(model, energy=0.8, data=x, multiple_of=1)
    for method in ("channel", "spatial"):
        _, one = factorize(model, method=method, energy=0.8, data=x, multiple_of=1)
        assert both.after.macs <= one.after.macs
    small, report = factorize(model, method="spatial", budget=Budget(macs=0.8), data=x)
    assert report.after.macs <= 0.8 * report.before.macs and gap(model, small, x) < 1
