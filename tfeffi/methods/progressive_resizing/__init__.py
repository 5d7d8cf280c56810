"""Trains on small images first: their convolutions cost the square of their side.

The network must take images of any size (convolutions and global pooling). Images are resized once,
antialiased, and kept; validation and what comes out are of the full size.

Source: Howard 2018 (DAWNBench, fast.ai); Touvron et al. 2019, "Fixing the train-test resolution
discrepancy", arXiv 1906.06423, on what small training images do to a network.
"""

import itertools

import keras

from tfeffi import derived
from tfeffi.errors import BadInput
from tfeffi.methods.method import Method
from tfeffi.surgery import Slices


def with_input_size(model: keras.Model, size: tuple[int | None, int | None]) -> keras.Model:
    """The same functional model for images of another size.

    Args:
        model: of one input (height, width, channels).
        size: (height, width); None takes any.

    Returns:
        A new model with equal weights.

    Raises:
        BadInput: a layer's weights depend on the size (a Dense after a Flatten).
    """
    config = model.get_config()
    _set_input_size(config, size)
    try:
        made = model.__class__.from_config(config)
        shapes = [
            (tuple(o.shape), tuple(n.shape))
            for o, n in zip(model.variables, made.variables, strict=True)
        ]
    except (ValueError, TypeError) as error:
        shapes, why = [((), None)], str(error).splitlines()[0]
    else:
        why = "a layer's weights count the pixels"
    if any(old != new for old, new in shapes):
        raise BadInput(
            f'progressive_resizing: model "{model.name}" takes images of one size only ({why}); use '
            "one that ends in global pooling"
        )
    for old, new in zip(model.variables, made.variables, strict=True):
        new.assign(old)
    derived.renew(made)
    return made


def _set_input_size(config: dict, size: tuple[int | None, int | None]) -> None:
    """Writes the size into the config of a model; those nested in it take any, but sides of 1 stay."""
    for layer in config["layers"]:
        inner = layer["config"]
        if layer["class_name"] == "InputLayer" and len(inner["batch_shape"]) == 4:
            _, *sides, channels = inner["batch_shape"]
            sides = size if sides != [1, 1] else sides  # of pooled features
            inner["batch_shape"] = (None, *sides, channels)
        elif isinstance(inner.get("layers"), list):
            _set_input_size(inner, (None, None))
        layer.pop("build_config", None)


class ProgressiveResizing(Method):
    """Changes the size of the images at given epochs; `sizes` is ((epoch, side), …), rising."""

    def __init__(self, sizes: tuple[tuple[int, int], ...]):
        self.sizes = sizes

    def on_model(self, run) -> None:
        full = run.train.images.shape[1:3]
        if (self.sizes[-1][1],) * 2 != full:
            raise BadInput(
                f"progressive_resizing: the last size is {self.sizes[-1][1]}, the images are "
                f"{full[0]}x{full[1]}; end with them"
            )
        if self.sizes[-1][0] >= run.settings.epochs:
            raise BadInput(
                f"progressive_resizing: the full size begins after epoch {self.sizes[-1][0]}, the "
                f"training has {run.settings.epochs}"
            )
        run.model = with_input_size(run.model, (None, None))
        run.image_size = (self.sizes[0][1],) * 2

    def on_epoch_end(self, run) -> None:
        for epoch, side in self.sizes[1:]:
            if run.epoch == epoch:
                run.image_size = (side, side)
                if epoch == self.sizes[-1][0]:
                    run.adopt(with_input_size(run.model, run.image_size), Slices.of(run.model, {}))

    def excludes(self) -> dict[str, str]:
        return {"progressive_resizing": "each sets the size of the images"}

    def settings(self) -> dict:
        return {"sizes": [list(pair) for pair in self.sizes]}


def build(sizes) -> ProgressiveResizing:
    """The method.

    Args:
        sizes: pairs (epochs done, side in pixels), from (0, …) on, epochs and sides rising; the
            last side is that of the images.

    Raises:
        BadInput: fewer than two pairs, pairs that do not rise, or do not begin at 0.

    Example:
        build([(0, 20), (3, 26), (6, 32)])
    """
    try:
        pairs = tuple(tuple(pair) for pair in sizes)
    except TypeError:
        pairs = ()
    whole = all(len(p) == 2 and all(isinstance(v, int) for v in p) for p in pairs)
    rising = whole and all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))
    if len(pairs) < 2 or not rising or pairs[0][0] != 0 or pairs[0][1] < 1:
        raise BadInput(
            f"progressive_resizing: sizes={sizes!r} must be pairs (epoch, side), two at least, "
            "that rise from epoch 0, such as [(0, 20), (3, 26), (6, 32)]"
        )
    return ProgressiveResizing(pairs)
