"""How often a .tflite is right: the number that goes beside its latency."""

import os

import numpy as np

from tfeffi.errors import BadInput
from tfeffi.export import litert


def evaluate(
    path: str | os.PathLike,
    images,
    labels: np.ndarray | None = None,
    *,
    threads: int | None = None,
    batch_size: int = 64,
) -> float:
    """The top-1 accuracy of a .tflite classifier.

    The model runs in a process of its own. What it stores as integers is scaled on the way in and
    out, so float and integer models take the same images.

    Args:
        path: the file.
        images: a `tfeffi.data.Images` (scaled to [0, 1], unless the model takes integer pixels; its
            labels are used), or an array (n, h, w, c) of the values the model was trained on.
        labels: (n,) class numbers, with an array.
        threads: of LiteRT; default all cores.
        batch_size: images at once if the model's batch is dynamic.

    Returns:
        The fraction of images of which the largest output is the label's.

    Raises:
        ModelError: the file cannot be run.
        BadInput: there are no images, labels are missing, or the model is not a classifier.

    Example:
        evaluate("m.tflite", tfeffi.data.load("fashion_mini", "test"))
    """
    divide_by = None
    if labels is None:
        if not (hasattr(images, "images") and hasattr(images, "labels")):
            raise BadInput("evaluate needs labels, or a tfeffi.data.Images that has them")
        images, labels, divide_by = images.images, images.labels, 255.0
    images, labels = np.asarray(images), np.asarray(labels)
    if len(images) != len(labels) or not len(images):
        raise BadInput(f"evaluate needs one label an image, got {len(images)} and {len(labels)}")
    outputs = litert.run(path, images, threads=threads, batch_size=batch_size, divide_by=divide_by)
    scores = next(iter(outputs.values()))
    if len(outputs) != 1 or scores.ndim != 2 or scores.shape[1] < 2:
        shapes = ", ".join(str(output.shape) for output in outputs.values())
        raise BadInput(f'"{path}" is not a classifier: its output has the shape {shapes}')
    return float(np.mean(scores.argmax(1) == labels))
