"""How much of a matrix is signal: the rank that a Bayesian factorization would keep.

Y = B Aᵀ + noise, with Gaussian priors on the columns of A and B and noise of variance σ². Variational
Bayes with the priors' variances estimated too keeps the singular values above a threshold that depends
on σ² alone, and the best σ² is found by a search in one dimension: nothing is left to be tuned.
"""

import numpy as np
from scipy.optimize import minimize_scalar

GRID = 200  # noise variances that are tried before the search is refined


def evbmf_rank(matrix: np.ndarray) -> int:
    """The number of singular values that stand out from the noise; 0 if none does.

    Args:
        matrix: (n, m), fully observed.

    Example:
        evbmf_rank(kernel.reshape(-1, kernel.shape[-1]))

    Source: Nakajima, Sugiyama, Babacan, Tomioka 2013, "Global analytic solution of fully-observed
    variational Bayesian matrix factorization" (JMLR 14), the empirical case; used for ranks of
    convolutions by Kim et al. 2015 (arXiv 1511.06530).
    """
    values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    return rank_of(values, *matrix.shape)


def rank_of(values: np.ndarray, rows: int, columns: int) -> int:
    """`evbmf_rank` of a matrix of this size, from all its singular values, descending."""
    short, long = sorted((rows, columns))
    squares = np.asarray(values, np.float64)[:short] ** 2
    if not squares.size or squares[0] <= 0:
        return 0
    limit = _threshold(short / long)
    return int((squares > limit * long * noise_variance(squares, short, long)).sum())


def noise_variance(squares: np.ndarray, short: int, long: int) -> float:
    """The σ² of least free energy.

    Args:
        squares: the squared singular values, descending.
        short, long: the sides of the matrix, short ≤ long.
    """
    ratio = short / long
    limit = _threshold(ratio)
    most = max(min(int(np.ceil(short / (1 + ratio))) - 1, short - 1), 0)  # signals there can be
    upper = squares.sum() / (short * long)
    tail = squares[most:]
    lower = max(tail[0] / (long * limit), tail.mean() / long, 1e-14 * upper)
    if lower >= upper:
        return float(upper)

    def energy(log_variance: float) -> float:
        return _free_energy(squares / (long * np.exp(log_variance)), ratio, limit)

    grid = np.linspace(np.log(lower), np.log(upper), GRID)
    best = int(np.argmin([energy(point) for point in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)])
    return float(np.exp(minimize_scalar(energy, bounds=around, method="bounded").x))


def _threshold(ratio: float) -> float:
    """What γ²/(long σ²) must exceed: x̄ = (1 + τ̄)(1 + α/τ̄) with τ̄ = 2.5129 √α."""
    root = 2.5129 * np.sqrt(ratio)
    return (1 + root) * (1 + ratio / root)


def _free_energy(scaled: np.ndarray, ratio: float, limit: float) -> float:
    """The free energy of all singular values, up to a constant; `scaled` is γ²/(long σ²)."""
    signal, noise = scaled[scaled > limit], scaled[scaled <= limit]
    rest = signal - (1 + ratio)
    tau = 0.5 * (rest + np.sqrt(rest**2 - 4 * ratio))
    found = (noise - np.log(np.maximum(noise, 1e-300))).sum() + (signal - tau).sum()
    found += np.log((tau + 1) / signal).sum() + ratio * np.log(tau / ratio + 1).sum()
    return float(found)
