"""The spatial split by what it does to data: kh×1 and 1×kw kernels whose responses are closest.

A patch x of the input (kh, kw, cin) gives the response y = xK. With C the second moment of patches, the
mean squared error of a kernel K̂ is

    E(K̂) = tr (K − K̂)ᵀ C (K − K̂),        K̂[h, w, i, o] = Σ_r v[h, i, r] · w[r, w, o],

quadratic in v and in w alone: it is lowered in turn, from the split of the weights, and never rises.
"""

import dataclasses
import functools

import numpy as np

from tfeffi.compress.decompose import Ranked, balanced, low_rank, spatial_matrix

ROUNDS = 8
STEPS = 6  # of conjugate gradients, for v in each round
TOLERANCE = 1e-4  # of the error: rounds stop when one gains less
RIDGE = 1e-8  # of the mean diagonal


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction(Ranked):
    """A kernel and its data, ready to be split at any rank.

    Attributes:
        energies: what each column of `basis` adds to the energy of the responses that is kept, with
            the best w for v = basis.
        matrix: the spatial matrix (kh·cin, kw·cout), float64.
        kernel: (kh, kw, cin, cout), float64.
        moment: C, (kh·kw·cin,) squared.
        means: (kh·kw·cin,), the mean patch where a bias can carry the mean, or None.
        basis: (kh·cin, ranks), the left singular vectors of the spatial matrix.
    """

    kernel: np.ndarray
    moment: np.ndarray
    means: np.ndarray | None
    basis: np.ndarray
    _fits: dict = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def total(self) -> float:
        """The energy of the responses."""
        flat = self.flat
        return float(np.einsum("po,pq,qo->", flat, self.moment, flat, optimize=True))

    @property
    def flat(self) -> np.ndarray:
        """The kernel as (kh·kw·cin, cout)."""
        return self.kernel.reshape(-1, self.kernel.shape[-1])

    def kept(self, rank: int) -> float:
        """The share of the responses' energy that the fitted kernels keep."""
        vertical, horizontal = self._fit(rank)
        lost = self.error(vertical, horizontal)
        return float(np.clip(1 - lost / self.total, 0, 1)) if self.total > 0 else 1.0

    def cut(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The factors as `spatial_kernels` takes them: (kh·cin, rank) and (rank, kw·cout)."""
        vertical, horizontal = self._fit(rank)
        return balanced(vertical.reshape(-1, rank), horizontal.reshape(rank, -1))

    def offset(self, rank: int) -> np.ndarray | None:
        """What a bias gains so that the mean response stays what it was; None: nothing."""
        if self.means is None:
            return None
        lost = self.flat - self._product(*self._fit(rank))
        return np.float32(self.means @ lost)

    def error(self, vertical: np.ndarray, horizontal: np.ndarray) -> float:
        """E(K̂), for (kh, cin, rank) and (rank, kw, cout)."""
        lost = self.flat - self._product(vertical, horizontal)
        return float(np.sum(lost * (self.moment @ lost)))

    def _product(self, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
        made = np.einsum("hir,rwo->hwio", vertical, horizontal, optimize=True)
        return made.reshape(self.flat.shape)

    def _fit(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        if rank not in self._fits:
            self._fits[rank] = self._alternate(rank)
        return self._fits[rank]

    def _alternate(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        height, width, inputs, outputs = self.kernel.shape
        left = self.basis[:, :rank]
        vertical = left.reshape(height, inputs, rank)
        horizontal = (left.T @ self.matrix).reshape(rank, width, outputs)  # the plain split
        error = self.error(vertical, horizontal)
        for _ in range(ROUNDS):
            horizontal = self._best_horizontal(vertical, horizontal)
            vertical = self._better_vertical(vertical, horizontal)
            before, error = error, self.error(vertical, horizontal)
            if before - error <= TOLERANCE * before:
                break
        return vertical, self._best_horizontal(vertical, horizontal)

    def _best_horizontal(self, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
        """The w of least error for this v; where the data is silent, as it was."""
        gram, responses = normal_equations(self.kernel, self.moment, vertical)
        given = horizontal.reshape(len(gram), -1)
        ridge = RIDGE * max(np.trace(gram) / len(gram), 1e-300)
        step = np.linalg.solve(gram + ridge * np.eye(len(gram)), responses - gram @ given)
        return (given + step).reshape(horizontal.shape)

    def _better_vertical(self, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
        """Steps of preconditioned conjugate gradients on v; each lowers the error."""
        height, width, inputs, outputs = self.kernel.shape
        gram = np.einsum("rwo,swo->rs", horizontal, horizontal, optimize=True)
        ridge = RIDGE * max(np.trace(gram) / len(gram), 1e-300)
        inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))

        def back(flat: np.ndarray) -> np.ndarray:
            answer = (self.moment @ flat).reshape(height, width, inputs, outputs)
            return np.einsum("hwio,rwo->hir", answer, horizontal, optimize=True)

        residual = back(self.flat - self._product(vertical, horizontal))
        direction = ready = residual @ inverse
        product = float(np.sum(residual * ready))
        for _ in range(STEPS):
            image = back(self._product(direction, horizontal))
            curvature = float(np.sum(direction * image))
            if product <= 0 or curvature <= 0:
                break
            length = product / curvature
            vertical = vertical + length * direction
            residual = residual - length * image
            ready = residual @ inverse
            before, product = product, float(np.sum(residual * ready))
            direction = ready + product / before * direction
        return vertical


def reconstruction(
    kernel: np.ndarray, moment: np.ndarray, means: np.ndarray | None, highest: int
) -> Reconstruction:
    """Prepares a kernel for the spatial split on data.

    Args:
        kernel: (kh, kw, cin, cout).
        moment: (kh·kw·cin,) squared, the mean of xᵀx over patches; with `means` of the centred ones.
        means: the mean patch, where there is a bias; else None.
        highest: the largest rank that will be asked for.

    Example:
        left, right = reconstruction(kernel, moment, None, 32).cut(16)

    Source: Jaderberg et al. 2014 (arXiv 1405.3866), who reconstruct responses by back-propagation;
    here by alternating least squares.
    """
    kernel = np.asarray(kernel, np.float64)
    height, _, inputs, _ = kernel.shape
    matrix = spatial_matrix(kernel)
    split = low_rank(matrix)
    left = matrix @ split.basis[:, :highest]
    norms = np.linalg.norm(left, axis=0)
    basis = left / np.where(norms > 0, norms, 1.0)
    vertical = basis.reshape(height, inputs, -1)
    gram, responses = normal_equations(kernel, moment, vertical)
    ridge = RIDGE * max(np.trace(gram) / len(gram), 1e-300)
    factor = np.linalg.cholesky(gram + ridge * np.eye(len(gram)))
    explained = (np.linalg.solve(factor, responses) ** 2).sum(axis=1)
    energies = explained.reshape(basis.shape[1], -1).sum(axis=1)
    return Reconstruction(energies, matrix, kernel, np.asarray(moment), means, basis)


def normal_equations(
    kernel: np.ndarray, moment: np.ndarray, vertical: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the best w solves: the moments of v's responses, and theirs with the layer's.

    Args:
        kernel: (kh, kw, cin, cout).
        moment: (kh·kw·cin,) squared.
        vertical: v, (kh, cin, rank).

    Returns:
        (rank·kw,) squared, and (rank·kw, cout).
    """
    width, rank = kernel.shape[1], vertical.shape[-1]
    spread = np.einsum("hir,wu->hwiru", vertical, np.eye(width)).reshape(len(moment), rank * width)
    through = moment @ spread
    return spread.T @ through, through.T @ kernel.reshape(-1, kernel.shape[-1])
