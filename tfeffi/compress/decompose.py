"""Kernels as sums of simpler kernels: the linear algebra of factorization, in NumPy alone.

A kernel is written as a matrix, the matrix as a product of two thin ones, and these as kernels again.
How it is written decides what the two layers are:

    channel   (kh·kw·cin) × cout        kh×kw conv to `rank` channels, then 1×1     Zhang et al. 2015
    spatial   (kh·cin) × (kw·cout)      kh×1 conv to `rank` channels, then 1×kw     Jaderberg 2014
    separable (kh·kw) × cout, per cin   depthwise kh×kw, then 1×1                   Chollet 2017

A Dense kernel is the channel case of a 1×1 convolution; Tucker's core between two 1×1 convolutions has a
file of its own. By Eckart and Young (1936) cutting the singular value decomposition after `rank` terms
is the best approximation there is, and its squared error is the sum of the squared singular values
that were cut off.

All of it computes in float64 and returns float32: in float32 the round-off of a decomposition at
full rank would be as large as that of the network itself.
"""

import dataclasses
import functools

import numpy as np

from tfeffi.compress.evbmf import evbmf_rank


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """A matrix (n, m) that can be cut to any rank, and what each rank holds.

    Attributes:
        energies: what each further term adds to what is kept.
        matrix: the matrix W, float64.
    """

    energies: np.ndarray
    matrix: np.ndarray

    @property
    def full_rank(self) -> int:
        """The largest rank there is, at which nothing is lost."""
        return min(self.matrix.shape)

    @functools.cached_property
    def total(self) -> float:
        """All the energy there is."""
        return float(self.energies.sum())

    def retained(self, rank: int) -> float:
        """The share of the energy that the first `rank` terms hold, in [0, 1]."""
        return float(self.energies[:rank].sum() / self.total) if self.total > 0 else 1.0

    def kept(self, rank: int) -> float:
        """The share of the energy that the factors at this rank keep, as they are made."""
        return self.retained(rank)

    def rank_for(self, energy: float) -> int:
        """The smallest rank that holds this share of the energy; at least 1."""
        if self.total == 0:
            return 1
        # Adding up squares of very different size is exact to about 1e-15 of the sum, no better.
        enough = np.cumsum(self.energies) >= (energy - 1e-14) * self.total
        return int(np.argmax(enough)) + 1 if enough.any() else self.full_rank

    def signal_rank(self) -> int:
        """How many terms of the matrix stand out from noise; 0 if none does."""
        return evbmf_rank(self.matrix)


@dataclasses.dataclass(frozen=True, eq=False)
class LowRank(Ranked):
    """A matrix (n, m) with its best approximation of any rank.

    Attributes:
        energies: the squared singular values, descending; of the responses, where it was
            decomposed by these.
        basis: (m, full rank) with orthonormal columns V: the cut is W V Vᵀ.
        means: (m,) the mean response to the calibration data, or None without them.
    """

    basis: np.ndarray
    means: np.ndarray | None = None

    def cut(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The two factors O (n, rank) and P (rank, m), W ≈ O P, of equal norm term by term.

        W V Vᵀ with the norms shared out is O = U √Σ and P = √Σ Vᵀ of the decomposition W = U Σ Vᵀ.
        """
        basis = self.basis[:, :rank]
        left = self.matrix @ basis
        return balanced(left, basis.T)

    def offset(self, rank: int) -> np.ndarray | None:
        """What a bias gains so that the mean response to the data stays what it was; None: nothing."""
        if self.means is None:
            return None
        basis = self.basis[:, :rank]
        return _float32(self.means - basis @ (basis.T @ self.means))


def balanced(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors (n, rank) and (rank, m) with the same product, of equal norm term by term, float32."""
    norms = np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1)
    real = (norms[0] > 0) & (norms[1] > 0)
    share = np.sqrt(np.divide(norms[0], norms[1], out=np.ones_like(norms[0]), where=real))
    share[~real] = 1.0
    return _float32(left / share), _float32(share[:, None] * right)


def low_rank(matrix: np.ndarray) -> LowRank:
    """Decomposes a matrix by its weights alone.

    Args:
        matrix: (n, m).

    Returns:
        The decomposition; `cut(rank)` has the Frobenius error √Σ_{i>rank} σᵢ², the least possible.

    Example:
        left, right = low_rank(kernel).cut(64)
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape[0] >= matrix.shape[1]:
        energies, basis = _eigen(matrix.T @ matrix)
    else:  # the smaller Gram matrix has all there is to know
        energies, left = _eigen(matrix @ matrix.T)
        basis = _normalized(matrix.T @ left)
    return LowRank(energies, matrix, basis)


def low_rank_on_data(matrix: np.ndarray, moment: np.ndarray, means: np.ndarray | None) -> LowRank:
    """Decomposes a matrix W by what it does to data X: the least ‖XW − XOP‖, not ‖W − OP‖.

    Reduced-rank regression: the best approximation of rank r to the responses Y = XW is Y V Vᵀ with V the
    first r eigenvectors of YᵀY, and O P = W V Vᵀ reaches it. Zhang et al. 2015, §2.2, eq. 4 to 6.

    Args:
        matrix: W, (n, m).
        moment: (m, m), the mean of yᵀy over the responses y = xW; of (y − ȳ)ᵀ(y − ȳ) with `means`.
        means: ȳ, (m,), where a bias can carry the mean; None where there is no bias.
    """
    energies, basis = _eigen(np.asarray(moment, np.float64))
    count = min(matrix.shape)
    means = None if means is None else np.asarray(means, np.float64)
    return LowRank(energies[:count], np.asarray(matrix, np.float64), basis[:, :count], means)


def channel_matrix(kernel: np.ndarray) -> np.ndarray:
    """Writes a kernel (kh, kw, cin, cout) or (cin, cout) as (kh·kw·cin, cout)."""
    return kernel.reshape(-1, kernel.shape[-1])


def channel_kernels(shape: tuple[int, ...], left: np.ndarray, right: np.ndarray):
    """The factors of `channel_matrix` as kernels: (kh, kw, cin, rank) and (1, 1, rank, cout).

    Args:
        shape: that of the original kernel; of a Dense kernel (cin, cout) the factors stay as they are.
    """
    return left.reshape(*shape[:-1], -1), right.reshape((1,) * (len(shape) - 2) + right.shape)


def spatial_matrix(kernel: np.ndarray) -> np.ndarray:
    """Writes a kernel (kh, kw, cin, cout) as (kh·cin, kw·cout)."""
    height, width, inputs, outputs = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(height * inputs, width * outputs)


def spatial_kernels(shape: tuple[int, ...], left: np.ndarray, right: np.ndarray):
    """The factors of `spatial_matrix` as kernels: (kh, 1, cin, rank) and (1, kw, rank, cout)."""
    height, width, inputs, outputs = shape
    vertical = left.reshape(height, 1, inputs, -1)
    horizontal = right.reshape(-1, width, outputs).transpose(1, 0, 2)[None]
    return vertical, np.ascontiguousarray(horizontal)


def separable_kernels(kernel: np.ndarray, multiplier: int) -> tuple[np.ndarray, np.ndarray]:
    """The best depthwise and pointwise kernels for a full one: one decomposition per input channel.

    Args:
        kernel: (kh, kw, cin, cout).
        multiplier: spatial filters for each input channel; kh·kw of them lose nothing.

    Returns:
        The depthwise kernel (kh, kw, cin, multiplier) and the pointwise one
        (1, 1, cin·multiplier, cout), in the order in which Keras numbers depthwise channels.
    """
    height, width, inputs, outputs = kernel.shape
    u, s, vt = np.linalg.svd(_per_input(kernel), full_matrices=False)
    multiplier = min(multiplier, s.shape[1])
    root = np.sqrt(s[:, :multiplier])
    depthwise = (u[:, :, :multiplier] * root[:, None]).transpose(1, 0, 2)
    pointwise = (vt[:, :multiplier] * root[:, :, None]).reshape(1, 1, -1, outputs)
    return _float32(depthwise.reshape(height, width, inputs, multiplier)), _float32(pointwise)


def separable_retained(kernel: np.ndarray, multiplier: int) -> float:
    """The share of a kernel's energy that `separable_kernels` keep, in [0, 1]."""
    energies = np.linalg.svd(_per_input(kernel), compute_uv=False) ** 2
    total = energies.sum()
    return float(energies[:, :multiplier].sum() / total) if total > 0 else 1.0


def _per_input(kernel: np.ndarray) -> np.ndarray:
    """A kernel (kh, kw, cin, cout) as cin matrices (kh·kw, cout)."""
    _, _, inputs, outputs = kernel.shape
    return np.asarray(kernel, np.float64).reshape(-1, inputs, outputs).transpose(1, 0, 2)


def _eigen(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending and not below 0, and the eigenvectors as columns."""
    values, vectors = np.linalg.eigh(gram)
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1])


def _normalized(columns: np.ndarray) -> np.ndarray:
    """Orthogonal columns at unit length; those that are nothing but round-off are 0."""
    lengths = np.linalg.norm(columns, axis=0)
    real = lengths > 1e-9 * lengths.max(initial=0.0)
    return np.where(real, columns / np.where(real, lengths, 1.0), 0.0)


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
