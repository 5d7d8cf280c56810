"""export(): a Keras model becomes a .tflite file that keeps the contract, or no file at all."""

import dataclasses
import os
import pathlib
import tempfile
import time

import keras
import numpy as np

from tfeffi import files
from tfeffi.errors import BadInput, near
from tfeffi.export import calibration as calibrating
from tfeffi.export import contract, convert, flatbuffer, litert
from tfeffi.export.flatbuffer import Tensor
from tfeffi.models import saved

QUANTIZE = (None, "float16", "dynamic", "int8")
_MOST_VALUES = 5_000_000  # of images compared with Keras: 200 of 32x32x3 and more, 33 of 224x224x3
_MOST_CHECKED = 200
_RANDOM_IMAGES = 16
_KERAS_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Exported:
    """A .tflite file that has passed its checks.

    Attributes:
        path: the file.
        quantize: None, "float16", "dynamic" or "int8".
        bytes, zip_bytes: its size, and its size in a zip archive.
        activation_bytes: the most activations alive at once, at batch 1; the arena's least size.
        operators: how often each builtin operator occurs.
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
    bytes: int
    zip_bytes: int
    activation_bytes: int
    operators: dict[str, int]
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
        return "\n".join(
            (
                f"{self.path}: {self.bytes:,} bytes, {self.zip_bytes:,} zipped",
                f"  weights      {self.quantize or 'float32'}",
                f"  tensors      {' -> '.join(ends)}",
                f"  operators    {operators}",
                f"  against Keras, {self.checked_images} images: largest difference "
                f"{self.max_difference:.3g} ({self.relative_difference:.2g} of the largest output){same}",
            )
        )  # fmt: skip


def export(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    *,
    quantize: str | None = None,
    calibration=None,
    integer_io: bool = False,
    batch_size: int | None = 1,
    input_shape: tuple[int, ...] | None = None,
    check_with=None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    value_range: tuple[float, float] | None = (0.0, 1.0),
) -> Exported:
    """Exports a Keras model to LiteRT and checks the file against the model.

    Only builtin operators are allowed; batch normalization is folded into the convolutions; a model
    trained in mixed precision is exported in float32 arithmetic. The file is checked (builtins
    only, LiteRT runs it, outputs finite and equal to Keras's within limits) before it gets its
    name, so a broken export leaves nothing behind.

    Args:
        model: with defined inputs (functional or Sequential), or the path of a .keras file.
        path: of the .tflite to write; must not exist.
        quantize: None for float32 weights; "float16" weights, half the bytes; "dynamic", int8
            weights, with activations quantized as they come; "int8", weights and activations, which
            needs calibration.
        calibration: TRAINING images for "int8": an array (n, h, w, c), a tf.data.Dataset of batches
            (images or (images, labels)), or a `tfeffi.data.Images`. At most 1000 are used,
            evenly spaced (of a dataset the first ones: shuffle it).
        integer_io: "int8" only: input and output are int8 too, with scale and zero point.
        batch_size: a static batch, or None for a dynamic one.
        input_shape: (h, w, c), where the model leaves its size open.
        check_with: images for the comparison with Keras, in the same forms (any split); default the
            calibration images, else random ones in `value_range`.
        tolerance: the largest difference allowed, as a fraction of the largest output. Default 1e-3
            for float32; else 0.05 for float16 and 0.3 for the others, unless 90% of classes agree.
        min_agreement: the fraction of images on which the class must be that of Keras. Default 0.9
            for int8; 0 turns that off, for an untrained model whose classes are near ties.
        value_range: the lowest and highest input the model expects; calibration outside it draws a
            warning. None turns that off.

    Returns:
        What was written and how it compares.

    Raises:
        ExportError: an operator has no builtin counterpart, or the contract would be broken.
        BadInput: an argument cannot be used; the message says which and what to do.

    Example:
        made = tfeffi.export(model, "m.tflite", quantize="int8", calibration=train_images)
        made.bytes, made.top1_agreement
    """
    start = time.perf_counter()
    path = pathlib.Path(path)
    _check_arguments(path, quantize, calibration, integer_io)
    _check_numbers(batch_size, tolerance, min_agreement)
    model = convert.in_float32(_loaded(model))
    _check_weights(model)
    signature = convert.specs(model, batch_size, input_shape)
    images = None
    if quantize == "int8":
        if len(signature) != 1:
            raise BadInput(
                f'int8 calibrates one input, this model has {len(signature)}; use "dynamic"'
            )
        shape = tuple(signature[0].shape[1:])
        images = calibrating.images(
            calibration, shape=shape, value_range=value_range, dtype=_dtype(signature[0])
        )
    samples = _samples(signature, images, check_with, value_range)
    content = convert.convert(model, signature, quantize, images, integer_io)
    with tempfile.TemporaryDirectory() as folder:  # a failure leaves not even path's folder
        temporary = pathlib.Path(folder) / path.name
        temporary.write_bytes(content)
        contents = contract.check_structure(temporary, quantize, integer_io)
        parity = _parity(model, temporary, samples, images is not None or check_with is not None)
        contract.check_parity(parity, quantize, tolerance, min_agreement)
        sizes = len(content), flatbuffer.zip_bytes(temporary)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return Exported(
        path=str(path), quantize=quantize, bytes=sizes[0], zip_bytes=sizes[1],
        activation_bytes=contents.activation_bytes, operators=contents.operators,
        inputs=contents.inputs, outputs=contents.outputs, checked_images=parity.images,
        max_difference=parity.max_difference, relative_difference=parity.relative_difference,
        top1_agreement=parity.top1_agreement, seconds=time.perf_counter() - start,
    )  # fmt: skip


def _check_arguments(path: pathlib.Path, quantize, calibration, integer_io) -> None:
    if quantize not in QUANTIZE:
        raise BadInput(
            f'unknown quantize "{quantize}"; {near(quantize, [q for q in QUANTIZE if q])}'
        )
    if path.suffix != ".tflite":
        raise BadInput(f'output "{path}" must end in .tflite')
    files.refuse_existing(path)
    if quantize == "int8" and calibration is None:
        raise BadInput("int8 needs calibration images, taken from the training set")
    if integer_io and quantize != "int8":
        raise BadInput(f'integer_io needs quantize="int8", not {quantize or "float32"}')


def _check_numbers(batch_size, tolerance, min_agreement) -> None:
    if batch_size is not None and not (isinstance(batch_size, int | np.integer) and batch_size > 0):
        raise BadInput(
            f"batch_size {batch_size} must be at least 1 and whole, or None for a dynamic batch"
        )
    if tolerance is not None and not tolerance >= 0:  # not a number is not
        raise BadInput(f"tolerance {tolerance} must be at least 0")
    if min_agreement is not None and not 0 <= min_agreement <= 1:
        raise BadInput(f"min_agreement {min_agreement} must be a fraction from 0 to 1")


def _loaded(model) -> keras.Model:
    if not isinstance(model, keras.Model):
        model = saved.load(model)
    try:
        defined = bool(model.built and model.inputs)
    except (AttributeError, ValueError):
        defined = False
    if not defined:
        raise BadInput(
            f'model "{model.name}" has no defined inputs; build it as a functional model, or as a '
            f"Sequential that starts with keras.Input"
        )
    return model


def _check_weights(model: keras.Model) -> None:
    for weight in model.weights:
        values = weight.numpy()
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise BadInput(
                f'weight "{weight.path}" is not finite (NaN or infinite); the training diverged'
            )


def _samples(signature, images, check_with, value_range) -> list[np.ndarray]:
    """The inputs on which the file is compared with Keras, one array an input."""
    size = sum(int(np.prod(spec.shape[1:])) for spec in signature)
    most = max(1, min(_MOST_CHECKED, _MOST_VALUES // max(size, 1)))
    if check_with is not None and len(signature) == 1:
        found = calibrating.images(
            check_with, shape=tuple(signature[0].shape[1:]), value_range=None, any_split=True,
            dtype=_dtype(signature[0]), what="check_with",
        )  # fmt: skip
        return [found[calibrating.spread(len(found), most)]]
    if images is not None:
        return [images[calibrating.spread(len(images), most)]]
    random, count = np.random.default_rng(0), min(most, _RANDOM_IMAGES)
    return [
        _random(random, (count, *spec.shape[1:]), _dtype(spec), value_range or (0.0, 1.0))
        for spec in signature
    ]


def _dtype(spec) -> np.dtype:
    return np.dtype(spec.dtype.as_numpy_dtype)


def _random(random, shape, dtype: np.dtype, value_range) -> np.ndarray:
    """Random inputs: bytes (pixels) of their whole range, all else within `value_range`."""
    if dtype.kind in "iu":  # wider integers are indices or lengths, of which few are valid
        limits = np.iinfo(dtype)
        low, high = (limits.min, limits.max) if dtype.itemsize == 1 else map(int, value_range)
        return random.integers(low, high, shape, dtype, endpoint=True)
    if dtype.kind == "b":
        return random.integers(0, 1, shape, endpoint=True).astype(dtype)
    return random.uniform(*value_range, shape).astype(dtype)


def _parity(model, path: pathlib.Path, samples: list[np.ndarray], real: bool) -> contract.Parity:
    """Compares file and model; classes only count on real images, noise has none."""
    batches = []
    for start in range(0, len(samples[0]), _KERAS_BATCH):
        rows = [sample[start : start + _KERAS_BATCH] for sample in samples]
        packed = rows[0] if len(rows) == 1 else keras.tree.pack_sequence_as(model.input, rows)
        batches.append([np.asarray(o) for o in keras.tree.flatten(model(packed, training=False))])
    reference = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    got = litert.run(path, {f"input_{i}": sample for i, sample in enumerate(samples)})
    parity = contract.compare(reference, [got[f"output_{i}"] for i in range(len(reference))])
    return parity if real else dataclasses.replace(parity, top1_agreement=None)
