"""EVBMF finds the rank that was planted, whatever the size and the noise, and none where none is."""

import numpy as np
import pytest

from tfeffi.compress.evbmf import evbmf_rank, noise_variance

SIZES = [(100, 40), (40, 100), (288, 64), (120, 120), (30, 500), (64, 10)]


def planted(rows, columns, rank, noise, seed=0):
    random = np.random.default_rng(seed)
    signal = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))
    return signal + noise * random.standard_normal((rows, columns))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0])
def test_the_planted_rank_is_found(size, rank, noise):
    assert evbmf_rank(planted(*size, rank, noise)) == rank


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_does_not_matter(scale):
    assert evbmf_rank(scale * planted(90, 50, 4, 0.5)) == 4


def test_the_noise_is_found_too():
    matrix = planted(300, 100, 5, 0.2)
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    assert noise_variance(squares, 100, 300) == pytest.approx(0.04, rel=0.05)


def test_weak_signals_drown():
    """A signal below the threshold is not told from noise: what is kept falls as noise grows."""
    signal = planted(80, 60, 6, 0.0)
    noise = np.random.default_rng(1).standard_normal((80, 60))
    found = [evbmf_rank(signal + level * noise) for level in (0.1, 1, 5, 20, 100)]
    assert found[0] == 6 and found[-1] == 0 and found == sorted(found, reverse=True)


@pytest.mark.parametrize("matrix", [np.zeros((5, 7)), np.zeros((1, 1)), np.ones((4, 1))])
def test_what_has_no_noise_or_nothing_at_all(matrix):
    assert evbmf_rank(matrix) in (0, 1)
    assert evbmf_rank(planted(60, 40, 5, 0.0)) == 5
