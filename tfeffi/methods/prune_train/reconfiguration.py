"""Reconfiguration: channels whose weights have gone to zero leave the model, dead blocks with them."""

import dataclasses
import math

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, Slices, apply, drop_constant_branches, kernels


@dataclasses.dataclass(frozen=True)
class Reconfigured:
    """What a reconfiguration did.

    Attributes:
        params_before, params: how many weights there are.
        channels_before, channels: how many sets of coupled channels are free to go.
        blocks: names of the Add layers whose branch has gone.
    """

    params_before: int
    params: int
    channels_before: int
    channels: int
    blocks: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything has gone."""
        return bool(self.blocks) or self.channels < self.channels_before


def reconfigure(
    model: keras.Model,
    threshold: float = 1e-4,
    *,
    relative: bool = False,
    multiple_of: int = 1,
) -> tuple[keras.Model, Slices, Reconfigured]:
    """Removes the channels that are sparse wherever they are made and wherever they are read.

    A channel is dense in a kernel if one of its weights there is above the threshold. It stays if
    any kernel that makes or reads it has it dense; on a residual path these are the kernels of all
    its blocks, and behind a Flatten all its positions. Of each layer at least one channel stays,
    unless a whole residual branch has a kernel without a dense channel: then the branch goes, and
    what it still added is a constant (`tfeffi.surgery.drop_constant_branches`).

    Where the weights are zero the result computes what the model computes. Where they are only
    small, `zero_then_check` measures the difference.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        threshold: of the absolute value.
        relative: whether the threshold is a share of the largest weight of the same kernel.
        multiple_of: widths are rounded up to a multiple, by the sparse channels with the largest
            weights; a layer that is sparse as a whole keeps one channel.

    Returns:
        The new model (the same one if nothing goes), the `Slices` with which an optimizer follows,
        and what was done.

    Raises:
        BadInput: a threshold below 0, or of 1 and more as a share; a model that surgery cannot read.

    Example:
        model, slices, report = reconfigure(model)
        optimizer = slices.apply_to(optimizer, model)

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, sections 4.1 and 4.2).
    """
    check_threshold(threshold, relative)
    if not isinstance(multiple_of, int) or multiple_of < 1:
        raise BadInput(f"prune_train: multiple_of={multiple_of!r} must be a whole number from 1")
    before, coupling = model, Coupling.of(model)
    sparse_kernels = {
        side.layer for side in kernels.made(coupling)
        if not _is_above(side, threshold, relative).any()
    }  # fmt: skip
    model, blocks = drop_constant_branches(model, sparse_kernels)
    channels = len(_free(coupling))
    coupling = Coupling.of(model) if blocks else coupling
    kept = dense_classes(coupling, threshold, relative=relative)
    _fill_up(coupling, kept, multiple_of)
    if not blocks and kept.all():
        slices = Slices.of(model, {})
    else:
        model, slices = apply(coupling, coupling.keep(kept))
        slices = dataclasses.replace(slices, by_name=bool(blocks))
    left = int(kept[_free(coupling)].sum())
    report = Reconfigured(before.count_params(), model.count_params(), channels, left, blocks)
    return model, slices, report


def dense_classes(
    coupling: Coupling, threshold: float = 1e-4, *, relative: bool = False
) -> np.ndarray:
    """Which classes of channels are dense in a kernel that makes or reads them, or must stay.

    Args:
        coupling: the labelled model.
        threshold, relative: of `reconfigure`.

    Returns:
        (classes,) bool.
    """
    dense, seen = np.zeros((2, coupling.classes.count), bool)
    for side in (*kernels.made(coupling), *kernels.read(coupling)):
        seen[side.classes] = True
        dense[side.classes[_is_above(side, threshold, relative)]] = True
    dense[list(coupling.classes.pinned)] = True
    return dense | ~seen


def zero_then_check(
    model: keras.Model, images, threshold: float = 1e-4, *, relative: bool = False, **rounding
) -> float:
    """How much a reconfiguration changes the outputs at most, on some images.

    Args:
        model: a functional or built Sequential model.
        images: an array, (n, height, width, channels) float32.
        threshold, relative: of `reconfigure`, as are the rest.

    Returns:
        max |output after − output before| / max |output before|.

    Example:
        zero_then_check(model, images[:64])  # 3e-07
    """
    after, _, _ = reconfigure(model, threshold, relative=relative, **rounding)
    wanted, found = (keras.ops.convert_to_numpy(m(images, training=False)) for m in (model, after))
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def check_threshold(threshold: float, relative: bool = False) -> None:
    """Raises BadInput for a threshold below 0, or one that is a share and not below 1."""
    if not isinstance(threshold, int | float) or not 0 <= threshold < math.inf:
        raise BadInput(
            f"prune_train: threshold={threshold!r} must be a number from 0, such as 1e-4"
        )
    if relative and threshold >= 1:
        raise BadInput(
            f"prune_train: threshold={threshold!r} is a share of the largest weight (relative=True) and "
            "must be below 1"
        )


def _is_above(side: kernels.Side, threshold: float, relative: bool) -> np.ndarray:
    """(n,) whether a position has a weight above the threshold."""
    largest = _largest(side)
    return largest > (threshold * largest.max(initial=0.0) if relative else threshold)


def _largest(side: kernels.Side) -> np.ndarray:
    """(n,) the largest absolute weight at each position."""
    return np.abs(side.rows()).max(axis=1, initial=0.0)


def _free(coupling: Coupling) -> np.ndarray:
    """The classes that may go."""
    return np.setdiff1d(np.arange(coupling.classes.count), list(coupling.classes.pinned))


def _fill_up(coupling: Coupling, kept: np.ndarray, multiple_of: int) -> None:
    """Keeps some sparse classes, the largest first, so that no layer is empty and widths are even."""
    size = np.zeros(len(kept))
    for side in (*kernels.made(coupling), *kernels.read(coupling)):
        np.maximum.at(size, side.classes, _largest(side))
    for group in coupling.groups:
        classes, step = group.classes, math.lcm(group.multiple, multiple_of) // group.multiple
        missing = min(len(classes), -(-kept[classes].sum() // step) * step) - kept[classes].sum()
        _keep_largest(kept, size, classes, int(missing))
    for _, classes in (*coupling.writers.items(), *coupling.parts):
        if not kept[classes].any():
            _keep_largest(kept, size, np.unique(classes), 1)


def _keep_largest(kept: np.ndarray, size: np.ndarray, classes: np.ndarray, count: int) -> None:
    sparse = classes[~kept[classes]]
    kept[sparse[np.argsort(-size[sparse], kind="stable")][:count]] = True
