"""Net2Net: the model grows while it trains, and loses nothing by it.

Training begins with a small model, whose steps are cheap. After the epochs that are named it becomes
wider or deeper without computing anything else (`tfeffi.widen`, `tfeffi.deepen`), and goes on from
there; momentum follows. With PruneTrain after it in the list, grow and prune take turns, and the
lasso's penalty is learned anew after each growth.

Source: Chen, Goodfellow and Shlens 2015, "Net2Net: accelerating learning via knowledge transfer",
arXiv 1511.05641.
"""

import dataclasses
import math
import numbers
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.methods.method import Method, NoEffectWarning
from tfeffi.surgery import Slices, deepen, widen
from tfeffi.surgery.graph import read

MEASURED = 256  # images whose moments a new batch normalization starts with

__all__ = ["Net2Net", "build", "grow"]


def grow(
    model: keras.Model,
    widths: Mapping[str, int | float] | float | None = None,
    *,
    after: Sequence[str] = (),
    images: np.ndarray | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> tuple[keras.Model, Slices]:
    """Makes a model deeper, then wider; it still computes the same, up to the noise.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        widths: of `tfeffi.widen`: a factor for all layers, or a width or factor for each named one.
        after: layers after whose blocks an identity layer is put in, `tfeffi.deepen`.
        images: (n, height, width, channels) float32, on which the batch normalizations of new layers
            are measured; None: new layers have none.
        noise: how far the copies of channels are moved.
        seed: of the draw of the copies.

    Returns:
        The new model, and the `Slices` with which an optimizer follows: new layers start afresh.

    Raises:
        BadInput: fewer channels than now, unknown layers, channels that must stay.

    Example:
        model, slices = grow(model, 1.5, after=["stage1_block1_conv1"], noise=1e-2)
    """
    for name in after:
        model = deepen(model, name, batch_normalization=images is not None, data=images)
    slices = Slices.of(model, {})
    if widths is not None:
        model, slices = widen(model, widths, noise=noise, seed=seed)
    return model, dataclasses.replace(slices, by_name=bool(after))


class Net2Net(Method):
    """`grow` after some epochs; see `build` for the settings.

    After each epoch the history has `macs` of one image and `params`.
    """

    def __init__(self, **settings):
        self._settings = settings

    def on_model(self, run) -> None:
        due = [epoch for epoch in self._settings["epochs"] if epoch < run.settings.epochs]
        if not due:
            warnings.warn(
                f"net2net: epochs={self._settings['epochs']} are not within the "
                f"{run.settings.epochs} epochs of the run",
                NoEffectWarning,
                stacklevel=2,
            )
        else:
            self._grown(run)  # what cannot grow is told now, not hours later

    def on_epoch_end(self, run) -> None:
        due = run.epoch in self._settings["epochs"] and run.epoch < run.settings.epochs
        if due and (grown := self._grown(run)):
            run.adopt(*grown)
            factor = self._settings["learning_rate_factor"]
            if factor != 1.0:
                run.set_batch_size(run.batch_size, factor * float(run.pace.factor))
        counted = cost(run.model, run.train.images.shape[1:])  # also while they are smaller
        run.scalars |= {"macs": counted.macs, "params": counted.params}

    def settings(self) -> dict:
        return dict(self._settings)

    def _grown(self, run) -> tuple[keras.Model, Slices] | None:
        """None where another method has taken away all that was to grow."""
        s = self._settings
        widths, after = self._left(run) if run.epoch else (s["widen"], s["deepen"])
        if not widths and not after:
            return None
        images = None
        if after and s["batch_normalization"]:
            images = run.images.images[:MEASURED] / np.float32(255)
        return grow(
            run.model, widths, after=after, images=images, noise=s["noise"],
            seed=run.settings.seed + run.epoch,
        )  # fmt: skip

    def _left(self, run) -> tuple[Mapping[str, int | float] | float | None, list[str]]:
        """`widen` and `deepen` without the layers that have left the model."""
        known, widths = read(run.model).layers, self._settings["widen"]
        by_name = isinstance(widths, Mapping)
        named = [*self._settings["deepen"], *(widths if by_name else ())]
        if gone := [name for name in named if name not in known]:
            warnings.warn(
                f"net2net: {', '.join(gone)} left the model before epoch {run.epoch}, and cannot grow",
                NoEffectWarning,
                stacklevel=2,
            )
        if by_name:
            widths = {name: width for name, width in widths.items() if name in known}
        return widths, [name for name in self._settings["deepen"] if name in known]


def build(
    epochs: Sequence[int],
    widen: Mapping[str, int | float] | float | None = None,
    deepen: Sequence[str] = (),
    noise: float = 1e-2,
    batch_normalization: bool = True,
    learning_rate_factor: float = 1.0,
) -> Net2Net:
    """The method.

    Args:
        epochs: after which the model grows.
        widen: a factor from 1 for all layers, or `{layer: width or factor}`; each time anew.
        deepen: layers after whose blocks an identity layer is put in; each time anew.
        noise: how far copies are moved, as a share of the standard deviation of their kernel. At 0
            copies stay alike, since they get the same gradients.
        batch_normalization: whether new layers have one.
        learning_rate_factor: what the schedule is multiplied by from each growth on.

    Raises:
        BadInput: nothing to do, epochs below 1, a factor below 1.
    """
    epochs = list(epochs) if isinstance(epochs, Sequence) else [epochs]
    if not epochs or any(not isinstance(e, int) or isinstance(e, bool) or e < 1 for e in epochs):
        raise BadInput(f"net2net: epochs={epochs!r} must be whole numbers of at least 1")
    deepen = [deepen] if isinstance(deepen, str) else deepen
    if not isinstance(deepen, Sequence) or not all(isinstance(name, str) for name in deepen):
        raise BadInput(f"net2net: deepen={deepen!r} must be names of layers")
    deepen = list(deepen)
    if (widen is None or widen == {}) and not deepen:
        raise BadInput("net2net: give widen, deepen or both; such as widen=1.5")
    for factor in widen.values() if isinstance(widen, Mapping) else [widen]:
        if isinstance(factor, numbers.Real) and factor < 1:
            raise BadInput(
                f"net2net: widen={widen!r} asks for fewer channels; give a factor from 1.0, or let "
                "prune_train take channels away"
            )
    if not isinstance(learning_rate_factor, int | float) or not (
        0 < learning_rate_factor < math.inf
    ):
        raise BadInput(
            f"net2net: learning_rate_factor={learning_rate_factor!r} must be above 0, such as 0.1"
        )
    widths = dict(widen) if isinstance(widen, Mapping) else widen
    return Net2Net(
        epochs=epochs, widen=widths, deepen=deepen, noise=noise,
        batch_normalization=batch_normalization, learning_rate_factor=learning_rate_factor,
    )  # fmt: skip
