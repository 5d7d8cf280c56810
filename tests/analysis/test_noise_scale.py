"""The noise scale against its formula, the estimator against problems whose noise is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.analysis.noise_scale import (
    GradientNoise,
    gradient_noise,
    measure,
    noise_scale,
    variance_factor,
)
from tfeffi.errors import BadInput


def test_the_formula():
    assert noise_scale(0.1, 50_000, 128) == pytest.approx(0.1 * (50_000 / 128 - 1))
    assert noise_scale(0.1, 50_000, 128, momentum=0.9) == pytest.approx(389.625)
    assert noise_scale(0.1, 100, 100) == 0.0


@given(
    rate=st.floats(1e-4, 10), batch=st.integers(1, 100), k=st.integers(1, 50), m=st.floats(0, 0.99)
)
def test_of_a_small_batch_it_is_that_of_k_times_rate_and_batch(rate, batch, k, m):
    examples = 10**9
    small, large = (
        noise_scale(rate, examples, batch, m),
        noise_scale(k * rate, examples, k * batch, m),
    )
    assert large == pytest.approx(small, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 101}, "batch_size=101 .* 100 examples"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 10, "momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
    ],
)
def test_settings_without_a_noise_scale(arguments, words):
    with pytest.raises(BadInput, match=words):
        noise_scale(0.1, 100, **arguments)


# ---------------------------------------------------------------- the estimator


def regression(examples, coordinates=3, seed=0):
    """Each example's gradient of a least-squares problem, (examples, coordinates)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(examples, coordinates)), rng.normal(size=examples)
    w = rng.normal(size=coordinates)
    return x * (x @ w - y)[:, None]


def truth(each):
    """|G|² and tr Σ of the population, from all its gradients."""
    mean = each.mean(0)
    return GradientNoise(float(mean @ mean), float(np.square(each - mean).sum(1).mean()))


def assert_close(found, wanted, rel):
    assert found.gradient_squared == pytest.approx(wanted.gradient_squared, rel=rel)
    assert found.trace == pytest.approx(wanted.trace, rel=rel)


@settings(max_examples=20)
@given(
    examples=st.integers(2, 8), sizes=st.data(), replacement=st.booleans(), seed=st.integers(0, 9)
)
def test_exact_over_all_batches_there_are(examples, sizes, replacement, seed):
    small = sizes.draw(st.integers(1, min(examples - 1, 3)))
    large = sizes.draw(st.integers(small + 1, examples if not replacement else 4))
    each = regression(examples, seed=seed)

    def mean_square(size):
        if replacement:
            drawn = itertools.product(range(examples), repeat=size)
        else:
            drawn = itertools.combinations(range(examples), size)
        return np.mean([np.square(each[list(chosen)].mean(0)).sum() for chosen in drawn])

    found = gradient_noise(
        (small, mean_square(small)), (large, mean_square(large)), None if replacement else examples
    )
    assert_close(found, truth(each), rel=1e-9)


def test_with_and_without_replacement_differ_as_the_theory_says():
    """N²·c(B) is N²/B with replacement, N (N/B − 1)·N/(N − 1) without."""
    n, b = 40, 8
    assert n**2 * variance_factor(b) == pytest.approx(n**2 / b)
    assert n**2 * variance_factor(b, n) == pytest.approx(n * (n / b - 1) * n / (n - 1))
    assert variance_factor(n, n) == 0 and variance_factor(1, 1) == 1


def test_measured_from_random_batches():
    each = regression(4000)
    found = measure(lambda chosen: each[chosen].mean(0), len(each), small=4, large=400, draws=4000)
    wanted = truth(each)
    assert_close(found, wanted, rel=0.1)
    critical = wanted.trace / wanted.gradient_squared
    assert found.critical_batch_size == pytest.approx(critical, rel=0.15)


def test_normal_gradients_of_known_covariance():
    """The covariance of x·(xᵀd), x normal: |d|² I + d dᵀ, of trace (n + 1)|d|²; the mean is d."""
    rng, d = np.random.default_rng(1), np.array([1.0, -2.0, 0.5, 1.0])
    x = rng.normal(size=(200_000, 4))
    each = x * (x @ d)[:, None]
    found = measure(lambda chosen: each[chosen].mean(0), len(each), small=2, large=200, draws=500)
    assert found.trace == pytest.approx(5 * d @ d, rel=0.2)
    assert found.gradient_squared == pytest.approx(d @ d, rel=0.1)


@pytest.mark.parametrize("sizes", [(8, 8), (8, 4), (0, 4), (8, 65)])
def test_sizes_that_give_no_answer(sizes):
    with pytest.raises(BadInput, match="gradient_noise: "):
        measure(lambda chosen: np.ones(2), 64, *sizes)
    with pytest.raises(BadInput, match="must rise and stay within"):
        gradient_noise((sizes[0], 1.0), (sizes[1], 0.5), examples=64)
