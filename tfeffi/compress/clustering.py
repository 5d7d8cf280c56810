"""`cluster`: weight sharing. Each kernel keeps at most 2^bits different values, its centroids."""

import numbers
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.compress import kernels
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.errors import BadInput, near

MOST_BITS = 16
MOST_ITERATIONS = 300


def cluster(
    model: keras.Model,
    bits: int | Mapping[str, int] = 8,
    *,
    preserve_sparsity: bool = False,
    ignore: Sequence[str] = (),
) -> tuple[keras.Model, Report]:
    """Replaces the weights of each kernel by the nearest of 2^bits values, found by k-means.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        bits: of an index, for all kernels, or by layer; a layer that is not named is left alone.
        preserve_sparsity: zeros stay zero: one of the values is 0 and stands for them alone.
        ignore: names of layers to leave alone.

    Returns:
        The model, an ordinary functional one of the same shape and file size, and the report; its
        settings tell the weights' bytes raw, zipped, and as indices with a table of values each. The
        method `shared_weights` of `tfeffi.methods` tunes the centroids.

    Raises:
        BadInput: bits out of range, an unknown layer, NaN weights.

    Example:
        shared, report = cluster(model, bits={"conv1": 8, "conv2": 8, "logits": 5})

    Source: Han et al. 2015, "Deep Compression", arXiv 1510.00149, section 3: linear initialization.
    """
    widths = _widths(bits)
    found, skipped = kernels.find(model, ignore, "cluster")
    if isinstance(bits, Mapping):
        _check_names(widths, [kernel.layer for kernel in found])
        skipped += [Skipped(k.layer, "is not in bits") for k in found if k.layer not in bits]
        found = [kernel for kernel in found if kernel.layer in bits]
    arrays, changed, theoretical = [], [], 0
    for kernel in found:
        width = widths[kernel.layer] if isinstance(bits, Mapping) else widths[""]
        values = shared(kernel.values, 2**width, preserve_sparsity)
        arrays.append(values)
        changed.append(_change(kernel, values, width))
        theoretical += shared_bytes(values.size, width)
    made = kernels.rewritten(model, found, arrays)
    before = cost(model)
    rest = before.bytes - 4 * sum(array.size for array in arrays)
    settings = {
        "bits": dict(bits) if isinstance(bits, Mapping) else bits,
        "preserve_sparsity": preserve_sparsity,
        "zipped_bytes_before": kernels.zipped_bytes(model),
        "zipped_bytes": kernels.zipped_bytes(made),
        "theoretical_bytes": theoretical + rest,
    }  # fmt: skip
    return made, Report(
        "cluster", before, cost(made), tuple(changed), tuple(skipped), settings,
        note=kernels.note(settings),
    )  # fmt: skip


def shared(weights: np.ndarray, count: int, preserve_sparsity: bool = False) -> np.ndarray:
    """Weights with at most `count` different values.

    Args:
        weights: of any shape, float32.
        count: how many values, at least 1.
        preserve_sparsity: exact zeros stay, and 0 is one of the values.

    Returns:
        float32, same shape. Weights that have no more values than that are given back as they are.
    """
    if np.unique(weights).size <= count:
        return weights
    flat = weights.ravel()
    chosen = flat != 0 if preserve_sparsity else np.ones(flat.size, bool)
    if chosen.all():
        return nearest(flat, kmeans(flat, count)).reshape(weights.shape)
    made = np.zeros_like(flat)
    if count > 1:
        made[chosen] = nearest(flat[chosen], kmeans(flat[chosen], count - 1))
    return made.reshape(weights.shape)


def kmeans(values: np.ndarray, count: int) -> np.ndarray:
    """Lloyd's algorithm in one dimension: ascending centroids, float64 (count,).

    The start is linear between smallest and largest value; a centroid without members stays. On sorted
    values a cluster is a range, and its mean a difference of prefix sums.

    Args:
        values: (n,).
        count: of centroids.
    """
    values = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centroids = np.linspace(values[0], values[-1], count) if count > 1 else values[:1]
    for _ in range(MOST_ITERATIONS):
        inner = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        ends = np.concatenate([[0], inner, [values.size]])
        members = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(members, 1)
        moved = np.where(members > 0, means, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = np.sort(moved)
    return centroids


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Each value replaced by the centroid closest to it, in float32."""
    index = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
    return centroids.astype(np.float32)[index]


def shared_bytes(count: int, bits: int) -> int:
    """What `count` shared weights take where indices of so many bits can be stored: n·b + 2^b·32 bits.

    Source: Deep Compression, equation 1.
    """
    return -(-(count * bits + 2**bits * 32) // 8)


def compression_ratio(count: int, bits: int) -> float:
    """How much smaller than in float32 that is: 32·n / (n·b + 32·2^b)."""
    return 32 * count / (count * bits + 32 * 2**bits)


def _change(kernel: kernels.Kernel, values: np.ndarray, bits: int) -> Change:
    before, after = np.unique(kernel.values).size, np.unique(values).size
    error = np.linalg.norm(values - kernel.values) / max(np.linalg.norm(kernel.values), 1e-30)
    saved = compression_ratio(values.size, bits)
    text = f"{after:,} values, {bits} bits: {saved:.1f}× in theory, error {100 * error:.2g} %"
    return Change(kernel.name, f"{before:,} values", text)


def _widths(bits) -> dict[str, int]:
    widths = dict(bits) if isinstance(bits, Mapping) else {"": bits}
    for width in widths.values():
        whole = isinstance(width, numbers.Integral) and not isinstance(width, bool)
        if not whole or not 1 <= width <= MOST_BITS:
            raise BadInput(f"cluster: bits={width!r} must be a whole number from 1 to {MOST_BITS}")
    return widths


def _check_names(widths: Mapping[str, int], layers: Sequence[str]) -> None:
    for name in widths:
        if name not in layers:
            raise BadInput(
                f'cluster: bits: layer "{name}" has no kernel here; {near(name, layers)}'
            )
