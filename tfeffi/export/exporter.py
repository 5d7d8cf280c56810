"""export(): a Keras model becomes a .tflite file that keeps the contract, or no file at all."""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from tfeffi import files
from tfeffi.errors import BadInput
from tfeffi.export import calibration as calibrating
from tfeffi.export import (
    compaction,
    contract,
    convert,
    flatbuffer,
    layers,
    plan,
    quantizer,
    recipes,
    samples,
    steps,
)  # fmt: skip
from tfeffi.export.record import Exported
from tfeffi.export.views import of_views
from tfeffi.models import saved


def export(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    *,
    quantize: str | None = None,
    recipe: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    calibration=None,
    integer_io: bool = False,
    reproducible: bool = False,
    compact: bool = False,
    views: str = "one",
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
        quantize: a name of `recipes.RECIPES`; None for float32. Each name is one way, by one maker,
            and a number in it is the bits of the weights. By TensorFlow's converter: "float16"
            weights; "dynamic", int8 weights, with activations quantized as they come; "int8",
            weights and activations. By litert-quantizer: "weights_int8" and "weights_int4", with
            float32 arithmetic; "dynamic_int8", "dynamic_int4" and "dynamic_int4_blocks" (of 32
            inputs of a dense layer); "static_int8", "static_int4" and "int16x8" (int8 weights and
            int16 activations), with integer activations.
        recipe: in place of that, layer by layer: {pattern: name}, or pairs of them. The first
            regular expression that matches a layer's whole name counts; where none does, and for
            "float32", the layer stays. Always by litert-quantizer, "int8" and "dynamic" included.
        calibration: TRAINING images, for integer activations ("int8", "static_...", "int16x8"): an
            array (n, h, w, c), a tf.data.Dataset of batches (images or (images, labels)), or a
            `tfeffi.data.Images`. At most 1000 are used, evenly spaced (of a dataset the first ones:
            shuffle it).
        integer_io: then, input and output are integers too, with scale and zero point.
        reproducible: the same network gives the same bytes, whatever its layers are called and
            whatever process exports it: tensors are named by the number of their layer. (The same
            .keras file gives the same bytes in any case.)
        compact: the same in fewer bytes: tensors within the graph have no names, and what is equal is
            stored once. `--profile` cannot tell the layers of such a file.
        views: of a classifier; "flip": the file looks at each image as it is and mirrored, and averages
            what it says; "flip_and_move": six views, moved by a pixel too (`train.evaluation.seen`).
            Accuracy for latency, for a few operators more: the views are one batch within the file.
        batch_size: a static batch, or None for a dynamic one.
        input_shape: (h, w, c), where the model leaves its size open.
        check_with: images for the comparison with Keras, in the same forms (any split); default the
            calibration images, else random ones in `value_range`.
        tolerance: the largest difference allowed, as a fraction of the largest output. Default 1e-3
            for float32; else 0.05 for float16, 0.5 for 4 bits and 0.3 for the others, unless 90% of
            classes agree; by layer, the largest of those that were used.
        min_agreement: the fraction of images on which the class must be that of Keras. Default 0.9
            for integer activations; 0 turns that off, for an untrained model whose classes are near ties.
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
        tfeffi.export(model, "mixed.tflite", recipe={"stem.*": "float32", ".*": "dynamic_int4"})
    """
    start = time.perf_counter()
    path = pathlib.Path(path)
    calibrated = _check_arguments(path, quantize, recipe, calibration, integer_io)
    _check_numbers(batch_size, tolerance, min_agreement)
    model = of_views(convert.in_float32(_loaded(model)), views)
    _check_weights(model)
    signature = convert.specs(model, batch_size, input_shape)
    images = None
    if calibrated:
        images = _calibration(calibration, calibrated, signature, value_range)
    inputs = samples.of(signature, images, check_with, value_range)
    content, planned = _converted(
        model, signature, quantize, recipe, images, integer_io, reproducible
    )
    kind = recipes.MIXED if recipe is not None else quantize
    if planned:
        contract.check_plan(planned, steps.read(content))
    if compact:
        content = compaction.compact(content)
    with tempfile.TemporaryDirectory() as folder:  # a failure leaves not even path's folder
        temporary = pathlib.Path(folder) / path.name
        temporary.write_bytes(content)
        contents = contract.check_structure(temporary, kind, integer_io)
        real = images is not None or check_with is not None
        parity, arena_bytes = samples.parity(model, temporary, inputs, real)
        contract.check_parity(parity, kind, tolerance, min_agreement, planned)
        sizes = len(content), flatbuffer.zip_bytes(temporary)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return Exported(
        path=str(path), quantize=kind, recipe=recipes.spoken(recipe), bytes=sizes[0],
        zip_bytes=sizes[1], activation_bytes=contents.activation_bytes, arena_bytes=arena_bytes,
        operators=contents.operators, weight_types=contents.weight_types,
        inputs=contents.inputs, outputs=contents.outputs, checked_images=parity.images,
        max_difference=parity.max_difference, relative_difference=parity.relative_difference,
        top1_agreement=parity.top1_agreement, seconds=time.perf_counter() - start,
    )  # fmt: skip


def _converted(
    model, signature, quantize, recipe, images, integer_io, reproducible
) -> tuple[bytes, list[plan.Planned]]:
    """The file, and what was planned for each operator where litert-quantizer made it."""
    whole, by_layer = recipes.named(quantize), recipes.by_layer(recipe)
    if not by_layer and (whole is None or whole.by == recipes.CONVERTER):
        content = convert.convert(model, signature, quantize, images, integer_io, reproducible)
        return content, []
    numbered = reproducible or bool(by_layer)
    content = convert.convert(model, signature, None, numbered=numbered)
    found = steps.read(content)
    if by_layer:
        paths, owners = [path for path, _ in layers.paths(model)], layers.owners(found, model)
        if not reproducible:
            content = layers.with_names(content, model)
            found = steps.read(content)
        planned = plan.by_layer(found, owners, paths, by_layer)
    else:
        planned = plan.whole(found, whole)
    if any(one.recipe for one in planned):
        batch = signature[0].shape[0] or 1
        content = quantizer.quantize(content, planned, images, batch, integer_io)
    return content, planned


def _calibration(calibration, quantize: str, signature, value_range):
    """The calibration images, of one input."""
    if len(signature) != 1:
        raise BadInput(
            f'{quantize} calibrates one input, this model has {len(signature)}; use "dynamic"'
        )
    shape = tuple(signature[0].shape[1:])
    return calibrating.images(
        calibration, shape=shape, value_range=value_range, dtype=samples.dtype(signature[0])
    )


def _check_arguments(path: pathlib.Path, quantize, recipe, calibration, integer_io) -> str | None:
    """The name of the recipe that is calibrated, if one is."""
    calibrated = recipes.check(quantize, recipe, integer_io)
    if path.suffix != ".tflite":
        raise BadInput(f'output "{path}" must end in .tflite')
    files.refuse_existing(path)
    if calibrated and calibration is None:
        raise BadInput(f"{calibrated} needs calibration images, taken from the training set")
    return calibrated


def _check_numbers(batch_size, tolerance, min_agreement) -> None:
    if batch_size is not None and not (isinstance(batch_size, int | np.integer) and batch_size > 0):
        raise BadInput(
            f"batch_size {batch_size} must be at least 1 and whole, or None for a dynamic batch"
        )
    if tolerance is not None and not tolerance >= 0:  # not a number is not
        raise BadInput(f"tolerance {tolerance} must be at least 0")
    contract.check_agreement(min_agreement)


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
