"""`sparsify`: single weights become zero, the smallest first. The network stays as large and as slow."""

import numbers
from collections.abc import Sequence

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.compress import kernels
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput, near

SCOPES = ("global", "layer")


def sparsify(
    model: keras.Model,
    sparsity: float,
    *,
    scope: str = "global",
    ignore: Sequence[str] = (),
) -> tuple[keras.Model, Report]:
    """Sets the smallest weights of the kernels to zero. For speed take `prune`, which removes channels.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        sparsity: the fraction of the kernels' weights that is zero afterwards, in [0, 1).
        scope: "global": the smallest of all kernels together; "layer": of each kernel so many.
        ignore: names of layers to leave alone.

    Returns:
        The model, an ordinary functional one of the same shape with zeros in its kernels, and the
        report, whose settings tell the weights' bytes, raw and zipped. The method `keep_zeros` of
        `tfeffi.methods` holds the zeros while it is fine-tuned.

    Raises:
        BadInput: a sparsity out of range, an unknown scope or layer, NaN weights.

    Example:
        sparse, report = sparsify(model, 0.9)

    Source: Han et al. 2015, arXiv 1506.02626, section 3.
    """
    _check(sparsity, scope)
    found, skipped = kernels.find(model, ignore, "sparsify")
    arrays = [kernel.values for kernel in found]
    masks = global_masks(arrays, sparsity) if scope == "global" else layer_masks(arrays, sparsity)
    made = kernels.rewritten(
        model, found, [np.where(m, a, 0.0) for a, m in zip(arrays, masks, strict=True)]
    )
    changed = [
        Change(kernel.name, f"{mask.size:,} weights", f"{mask.sum():,}, {1 - mask.mean():.1%} zero")
        for kernel, mask in zip(found, masks, strict=True)
    ]
    settings = {
        "sparsity": float(sparsity), "scope": scope,
        "zeros": int(sum(mask.size - mask.sum() for mask in masks)),
        "weights": int(sum(mask.size for mask in masks)),
        "zipped_bytes_before": kernels.zipped_bytes(model),
        "zipped_bytes": kernels.zipped_bytes(made),
    }  # fmt: skip
    report = Report(
        "sparsify", cost(model), cost(made), tuple(changed), tuple(skipped), settings,
        note=kernels.note(settings),
    )  # fmt: skip
    return made, report


def layer_masks(arrays: Sequence[np.ndarray], sparsity: float) -> list[np.ndarray]:
    """For each array, where it keeps its weights: all but its `sparsity` smallest."""
    return [_mask(np.abs(array).ravel(), sparsity).reshape(array.shape) for array in arrays]


def global_masks(arrays: Sequence[np.ndarray], sparsity: float) -> list[np.ndarray]:
    """For each array, where it keeps its weights: all but the `sparsity` smallest of all arrays."""
    mask = _mask(np.concatenate([np.abs(array).ravel() for array in arrays]), sparsity)
    ends = np.cumsum([array.size for array in arrays])[:-1]
    parts = np.split(mask, ends)
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _mask(magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
    """True but for the smallest; of equal ones the first go, so that the count is met exactly."""
    mask = np.ones(magnitudes.size, bool)
    mask[np.argsort(magnitudes, kind="stable")[: round(sparsity * magnitudes.size)]] = False
    return mask


def _check(sparsity, scope) -> None:
    number = isinstance(sparsity, numbers.Real) and not isinstance(sparsity, bool)
    if not number or not 0 <= sparsity < 1:
        raise BadInput(f"sparsify: sparsity={sparsity!r} must be a fraction in [0, 1), such as 0.9")
    if scope not in SCOPES:
        raise BadInput(f'sparsify: unknown scope "{scope}"; {near(str(scope), SCOPES)}')
