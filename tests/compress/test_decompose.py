"""Kernels as products: exact at full rank, and off by exactly the tail of the singular values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.compress import decompose

sizes = st.integers(1, 12)


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(sizes, sizes, st.integers(0, 99))
@settings(max_examples=60)
def test_every_cut_loses_exactly_the_tail(rows, columns, seed):
    matrix = drawn(seed, rows, columns)
    split = decompose.low_rank(matrix)
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(np.sqrt(split.energies), values, atol=1e-6 * values[0])
    for rank in range(1, split.full_rank + 1):
        left, right = split.cut(rank)
        assert left.shape == (rows, rank) and right.shape == (rank, columns)
        lost = np.linalg.norm(matrix - left.astype(np.float64) @ right)
        assert lost == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), abs=1e-5 * values[0])


def test_the_two_factors_share_the_norm():
    left, right = decompose.low_rank(drawn(0, 7, 9)).cut(4)
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), 1e-5)


@given(st.integers(0, 99), st.floats(0.05, 1.0))
def test_rank_for_an_energy_is_the_smallest(seed, energy):
    split = decompose.low_rank(drawn(seed, 8, 6))
    rank = split.rank_for(energy)
    assert split.retained(rank) >= energy - 1e-12
    assert rank == 1 or split.retained(rank - 1) < energy


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_a_zero_matrix_keeps_everything_at_rank_one(shape):
    split = decompose.low_rank(np.zeros(shape, np.float32))
    left, right = split.cut(1)
    assert split.rank_for(0.95) == 1 and split.retained(1) == 1.0
    assert not (left @ right).any() and np.isfinite(right).all()


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (1, 5, 3, 2), (2, 4, 5, 3)])
def test_spatial_kernels_multiply_back(shape):
    kernel = drawn(1, *shape)
    split = decompose.low_rank(decompose.spatial_matrix(kernel))
    vertical, horizontal = decompose.spatial_kernels(shape, *split.cut(split.full_rank))
    assert vertical.shape[:3] == (shape[0], 1, shape[2]) and horizontal.shape[1] == shape[1]
    np.testing.assert_allclose(
        np.einsum("hicr,wro->hwco", vertical, horizontal[0]), kernel, atol=1e-5
    )


@given(st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=20)
def test_separable_kernels_are_the_best_per_input_channel(multiplier, seed):
    kernel = drawn(seed, 3, 3, 4, 10)
    depthwise, pointwise = decompose.separable_kernels(kernel, multiplier)
    mixed = pointwise.reshape(4, multiplier, 10)  # Keras numbers depthwise outputs input-major
    made = np.einsum("hwci,cio->hwco", depthwise, mixed)
    best = 0.0
    for channel in range(4):
        values = np.linalg.svd(kernel[:, :, channel].reshape(9, 10), compute_uv=False)
        best += (values[multiplier:] ** 2).sum()
    assert np.sum((kernel - made) ** 2) == pytest.approx(best, abs=1e-4)
    kept = decompose.separable_retained(kernel, multiplier)
    assert kept == pytest.approx(1 - best / np.sum(kernel**2), abs=1e-5)
