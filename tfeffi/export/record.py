"""What is known of a .tflite that has passed its checks."""

import dataclasses

from tfeffi.export.flatbuffer import Tensor


@dataclasses.dataclass(frozen=True)
class Exported:
    """A .tflite file that has passed its checks.

    Attributes:
        path: the file.
        quantize: the name of its recipe, None for float32, "recipe" if it differs by layer.
        recipe: then, the pairs of pattern and name.
        bytes, zip_bytes: its size, and its size in a zip archive.
        activation_bytes: the most activations alive at once, at batch 1, read from the file.
        arena_bytes: what LiteRT's own kernels lay out for activations, scratch space and unpacked
            weights, measured here; an output may lie on its input. None where it failed.
        operators: how often each builtin operator occurs.
        weight_types: the bytes of the constants, by type.
        inputs, outputs: name, dtype, shape (None: dynamic), scale and zero point.
        checked_images: how many images were compared with Keras.
        max_difference: the largest absolute difference of an output from Keras's.
        relative_difference: that over the largest absolute output.
        top1_agreement: the fraction of images of which the class is that of Keras; None if the
            model is no classifier or was compared on random values.
        seconds: what conversion and checks took.
    """

    path: str
    quantize: str | None
    recipe: tuple[tuple[str, str], ...] | None
    bytes: int
    zip_bytes: int
    activation_bytes: int
    arena_bytes: int | None
    operators: dict[str, int]
    weight_types: dict[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    checked_images: int
    max_difference: float
    relative_difference: float
    top1_agreement: float | None
    seconds: float

    def to_json(self) -> dict:
        """The record as JSON; what was not measured is absent."""
        record = {k: v for k, v in vars(self).items() if v is not None}
        record["inputs"] = [tensor.to_json() for tensor in self.inputs]
        record["outputs"] = [tensor.to_json() for tensor in self.outputs]
        return record

    def table(self) -> str:
        """The record as lines for the console."""
        same = "" if self.top1_agreement is None else f", same class {self.top1_agreement:.1%}"
        ends = [
            f"{t.dtype} {'x'.join(str(s or '?') for s in t.shape)}"
            for t in (*self.inputs, *self.outputs)
        ]
        operators = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        arena = "" if self.arena_bytes is None else f", arena here {self.arena_bytes:,}"
        layers = "".join(f"; {pattern}: {name}" for pattern, name in self.recipe or ())
        return "\n".join(
            (
                f"{self.path}: {self.bytes:,} bytes, {self.zip_bytes:,} zipped",
                f"  weights      {self.quantize or 'float32'}{layers}",
                f"  memory       {self.activation_bytes:,} bytes of activations at once{arena}",
                f"  tensors      {' -> '.join(ends)}",
                f"  operators    {operators}",
                f"  against Keras, {self.checked_images} images: largest difference "
                f"{self.max_difference:.3g} ({self.relative_difference:.2g} of the largest output){same}",
            )
        )  # fmt: skip
