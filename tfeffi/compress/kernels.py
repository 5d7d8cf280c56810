"""The kernels of a model as arrays, for compressions that change weights and leave shapes alone."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfeffi.compress.report import Skipped
from tfeffi.errors import BadInput, near
from tfeffi.surgery import replace
from tfeffi.surgery.graph import read

NO_SPEED = (
    "Brings no speed and no smaller file: kernels stay dense and in float32. Only what is compressed "
    "after them (zip, gzip, an app's download) gets smaller."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel: the layer's path, the variable's name, and its values."""

    layer: str
    variable: str
    values: np.ndarray

    @property
    def name(self) -> str:
        """For a report: the layer, and the variable where that says more than "kernel"."""
        return self.layer if self.variable == "kernel" else f"{self.layer}/{self.variable}"


def find(
    model: keras.Model, ignore: Sequence[str] | str, who: str
) -> tuple[list[Kernel], list[Skipped]]:
    """All kernels of a model, and those that `ignore` names.

    Args:
        model: a functional or built Sequential model.
        ignore: names of layers; of a nested model: all of its layers.
        who: the name of the function, for its messages.

    Raises:
        BadInput: `ignore` names no layer, a kernel is not finite, or there is none.
    """
    layers = {p: layer.live for p, layer in read(model).layers.items() if layer.live is not None}
    ignored = _ignored([ignore] if isinstance(ignore, str) else ignore, layers, who)
    found, skipped, seen = [], [], set()
    for path, layer in layers.items():
        for variable in layer.weights:
            if not variable.name.endswith("kernel") or id(variable) in seen:
                continue
            seen.add(id(variable))
            values = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
            if not np.isfinite(values).all():
                raise BadInput(f'{who}: layer "{path}" has weights that are NaN or infinite')
            if path in ignored:
                skipped.append(Skipped(path, "is in ignore"))
            else:
                found.append(Kernel(path, variable.name, values))
    if not found:
        raise BadInput(f'{who}: model "{model.name}" has no kernel to change')
    return found, skipped


def rewritten(
    model: keras.Model, found: Sequence[Kernel], arrays: Sequence[np.ndarray]
) -> keras.Model:
    """A copy of the model with these arrays in the place of its kernels."""
    made = replace(model, {})
    layers = {path: layer.live for path, layer in read(made).layers.items()}
    for kernel, values in zip(found, arrays, strict=True):
        same = [w for w in layers[kernel.layer].weights if w.name == kernel.variable]
        same[0].assign(values)
    return made


def described(kernel: Kernel) -> str:
    """For a report: how many different values it has, and how many of its weights are zero."""
    zeros = float(np.mean(kernel.values == 0))
    return f"{np.unique(kernel.values).size:,} values, {zeros:.1%} zero"


def zipped_bytes(model: keras.Model) -> int:
    """What all weights of a model take after DEFLATE, the compression of zip and gzip."""
    raw = b"".join(np.ascontiguousarray(values).tobytes() for values in model.get_weights())
    return len(zlib.compress(raw, 6))


def note(settings: Mapping[str, Any]) -> str:
    """What the report of such a compression says at its end."""
    before, after = settings["zipped_bytes_before"], settings["zipped_bytes"]
    text = f"Zipped, the weights take {after:,} bytes instead of {before:,}"
    if "theoretical_bytes" in settings:
        text += f"; as indices they would take {settings['theoretical_bytes']:,}"
    return f"{text}. {NO_SPEED}"


def _ignored(names: Sequence[str], layers: Mapping[str, Any], who: str) -> set[str]:
    found: set[str] = set()
    for name in names:
        here = {path for path in layers if path == name or path.startswith(f"{name}/")}
        if not here:
            raise BadInput(
                f'{who}: ignore: layer "{name}" is not in the model; {near(name, layers)}'
            )
        found |= here
    return found
