"""Importances that are read off the weights: norms, geometric median, batch normalization's scale.

A kernel speaks for the channels it makes (its output axis) or reads (its input axis). Kernels that
keep channels apart (depthwise ones) and vectors (biases) say nothing.
"""

from collections.abc import Iterator

import keras
import numpy as np

from tfeffi.compress.prune.scores import Place, Scores, finish, normalize, reduce
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, kernels

_ROWS = 1 << 14  # of a kernel held in float64 at once


def l1(coupling: Coupling, data=None, *, reduction="mean", normalization="mean") -> Scores:
    """The L1 norm of the weights that make a channel (Li et al. 2016, arXiv 1608.08710).

    Args:
        coupling: the labelled model, `Coupling.of(model)`.
        data: not looked at.
        reduction: over the layers that make the same channel, see `scores.reduce`.
        normalization: between layers, see `scores.normalize`.
    """
    return _norm(
        coupling, lambda rows: np.abs(rows).sum(1, dtype=np.float64), reduction, normalization
    )


def l2(coupling: Coupling, data=None, *, reduction="mean", normalization="mean") -> Scores:
    """The L2 norm of the weights that make a channel; the arguments are those of `l1`."""
    return _norm(coupling, lambda rows: np.sqrt(_squares(rows)), reduction, normalization)


def geometric_median(
    coupling: Coupling, data=None, *, reduction="mean", normalization="mean"
) -> Scores:
    """How far a filter is from the others of its layer: Σ_j ‖W_i − W_j‖₂.

    The filter nearest to the geometric median is the one that the others replace best. The
    arguments are those of `l1`.

    Source: FPGM (He et al. 2019, arXiv 1811.00250).
    """
    return _norm(coupling, _distances, reduction, normalization)


def group_lasso(
    coupling: Coupling, data=None, *, reduction: str | None = None, normalization="mean"
) -> Scores:
    """√Σw² over all the kernel weights that make or read a channel: what training pushes to zero.

    Args:
        coupling: the labelled model.
        data: not looked at.
        reduction: None for one norm over the weights of all layers; otherwise each layer has its
            own norm, and these are reduced.
        normalization: between layers, see `scores.normalize`.

    Source: the groups of PruneTrain (Lym et al. 2019, arXiv 1901.09290).
    """
    places = []
    for path, classes, rows in (*written(coupling), *read(coupling)):
        unique, inverse = np.unique(classes, return_inverse=True)
        places.append(Place(path, unique, np.bincount(inverse, _squares(rows))))
    if reduction is None:
        values = np.sqrt(reduce(coupling.classes.count, places, "sum"))
        rank = normalize(coupling, values, normalization)
        return Scores(values, rank, rank)
    places = [Place(one.path, one.classes, np.sqrt(one.values)) for one in places]
    return finish(coupling, places, reduction, normalization)


def bn_scale(coupling: Coupling, data=None, *, reduction="mean", normalization="none") -> Scores:
    """|gamma| of batch normalization; channels without one are kept.

    The arguments are those of `l1`.

    Raises:
        BadInput: the model has no batch normalization with a scale.

    Source: Network Slimming (Liu et al. 2017, arXiv 1708.06519).
    """
    places = []
    for site, _ in coupling.sites:
        channels = site.outputs[0].channels
        if channels is not None and "gamma" in site.layer.shapes:
            gamma = np.abs(keras.ops.convert_to_numpy(site.layer.live.gamma).astype(np.float32))
            places.append(Place.of(site.layer.path, coupling.classes_of(channels), gamma))
    if not places:
        raise BadInput(
            'prune: importance "bn_scale" needs batch normalization with a scale, and the model has '
            'none; "l2" needs nothing'
        )
    return finish(coupling, places, reduction, normalization)


def written(coupling: Coupling) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(layer, class of each row, rows) of every kernel, one row for each channel it makes."""
    return ((side.layer, side.classes, side.rows()) for side in kernels.made(coupling))


def read(coupling: Coupling) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(layer, class of each row, rows) of every kernel, one row for each channel it reads."""
    return ((side.layer, side.classes, side.rows()) for side in kernels.read(coupling))


def _norm(coupling: Coupling, norm, reduction: str, normalization: str) -> Scores:
    places = [Place.of(path, classes, norm(rows)) for path, classes, rows in written(coupling)]
    return finish(coupling, places, reduction, normalization)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.square(rows, dtype=np.float64).sum(1)


def _distances(rows: np.ndarray) -> np.ndarray:
    """Σ_j ‖row_i − row_j‖₂ by ‖a‖² + ‖b‖² − 2ab, in float64."""
    products = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], _ROWS):
        block = rows[:, start : start + _ROWS].astype(np.float64)
        products += block @ block.T
    squares = np.diag(products)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)).sum(1)
