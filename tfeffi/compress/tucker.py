"""Tucker-2: a kernel as a small core between two changes of channels, in NumPy alone.

    K (S, cin, cout) ≈ G ×₂ U ×₃ V        K[s, i, o] = Σ_ab U[i, a] G[s, a, b] V[o, b]

As layers: 1×1 from cin to a, kh×kw from a to b, 1×1 from b to cout. U and V have orthonormal columns
and G = K ×₂ Uᵀ ×₃ Vᵀ, so what is kept of the energy ‖K‖² is ‖G‖².
"""

import dataclasses

import numpy as np

from tfeffi.compress.evbmf import evbmf_rank

ITERATIONS = 30
TOLERANCE = 1e-6  # of the energy: HOOI stops when an iteration gains less

Ranks = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Tucker:
    """A kernel with the bases of its two channel modes, ready to be cut to any pair of ranks.

    Attributes:
        shape: of the kernel as a layer has it, (kh, kw, cin, cout).
        kernel: (S, cin, cout), float64.
        inputs, outputs: (cin, cin), (cout, cout), the singular vectors of the unfoldings in columns,
            the largest first: the higher-order SVD.
        table: (cin + 1, cout + 1), the energy that each pair of ranks keeps of the truncated HOSVD.
    """

    shape: tuple[int, ...]
    kernel: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    table: np.ndarray
    _fits: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def full_rank(self) -> Ranks:
        """The ranks at which nothing is lost."""
        size, inputs, outputs = self.kernel.shape
        return min(inputs, size * outputs), min(outputs, size * inputs)

    def retained(self, ranks: Ranks) -> float:
        """The share of the energy that the truncated HOSVD keeps, in [0, 1]."""
        total = self.table[-1, -1]
        return float(min(self.table[ranks] / total, 1.0)) if total > 0 else 1.0

    def kept(self, ranks: Ranks) -> float:
        """The share of the energy that the factors at these ranks keep, after HOOI."""
        total, core = self.table[-1, -1], self._fit(*ranks)[1]
        return float(min((core**2).sum() / total, 1.0)) if total > 0 else 1.0

    def signal_rank(self) -> Ranks:
        """How many terms of each unfolding stand out from noise (Kim et al. 2015)."""
        return evbmf_rank(_unfold(self.kernel, 1)), evbmf_rank(_unfold(self.kernel, 2))

    def kernels(self, ranks: Ranks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The kernels of the three layers, float32; for a 2-D convolution (1, 1, cin, a),
        (kh, kw, a, b) and (1, 1, b, cout)."""
        first, core, last = self._fit(*ranks)
        ones, window = (1,) * (len(self.shape) - 2), self.shape[:-2]
        made = first.reshape(*ones, *first.shape), core.reshape(*window, *core.shape[1:])
        made += (last.T.reshape(*ones, *last.T.shape),)
        return tuple(np.ascontiguousarray(one, np.float32) for one in made)

    def _fit(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U, G and V at these ranks: HOSVD, then HOOI until it gains nothing."""
        if (first, last) not in self._fits:
            self._fits[first, last] = self._iterate(first, last)
        return self._fits[first, last]

    def _iterate(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        right = self.outputs[:, :last]
        energy = self.table[first, last]
        for _ in range(ITERATIONS):
            left = _leading(_unfold(np.einsum("sio,ob->sib", self.kernel, right), 1), first)
            right = _leading(_unfold(np.einsum("sio,ia->sao", self.kernel, left), 2), last)
            core = np.einsum("sio,ia,ob->sab", self.kernel, left, right, optimize=True)
            before, energy = energy, (core**2).sum()
            if energy - before <= TOLERANCE * self.table[-1, -1]:
                break
        return left, core, right


def tucker(kernel: np.ndarray) -> Tucker:
    """Decomposes a kernel by its weights.

    Args:
        kernel: (..., cin, cout), of a convolution of any dimension.

    Returns:
        The decomposition: `kernels(ranks)` are those of higher-order orthogonal iteration, which
        starts from the higher-order SVD and never keeps less than it.

    Example:
        first, core, last = tucker(kernel).kernels((16, 24))

    Source: Kim et al. 2015 (arXiv 1511.06530); De Lathauwer et al. 2000 for HOSVD and HOOI.
    """
    volume = np.asarray(kernel, np.float64).reshape(-1, *kernel.shape[-2:])
    inputs = _leading(_unfold(volume, 1), volume.shape[1])
    outputs = _leading(_unfold(volume, 2), volume.shape[2])
    core = np.einsum("sio,ia,ob->sab", volume, inputs, outputs, optimize=True)
    table = np.zeros((volume.shape[1] + 1, volume.shape[2] + 1))
    table[1:, 1:] = (core**2).sum(axis=0).cumsum(axis=0).cumsum(axis=1)
    return Tucker(tuple(kernel.shape), volume, inputs, outputs, table)


def _unfold(volume: np.ndarray, axis: int) -> np.ndarray:
    """The volume as a matrix with a row for each place along `axis`."""
    return np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)


def _leading(matrix: np.ndarray, count: int) -> np.ndarray:
    """The first left singular vectors, as columns."""
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count])
