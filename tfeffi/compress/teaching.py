"""What a teacher says to every view of the training images, asked once and learnt for many epochs.

Student and teacher see the very same crops: the consistent teaching that pays over long schedules. An
8-bit file answers several times faster than the network it came from.
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfeffi import models
from tfeffi.compress.distillation import check_numbers
from tfeffi.data import Augment, Images
from tfeffi.data.batches import every_view
from tfeffi.data.loading import free_memory
from tfeffi.errors import BadInput
from tfeffi.export import flatbuffer, litert, steps
from tfeffi.train import losses
from tfeffi.train.settings import make_augment

Teacher = keras.Model | str | os.PathLike
_NONE = Augment()
_PATIENCE = 0.2  # seconds an image, before a file is given up
_PASSING = (  # averages of views, too
    "QUANTIZE", "DEQUANTIZE", "RESHAPE", "ADD", "MUL", "DIV", "MEAN", "SUM", "STRIDED_SLICE",
)  # fmt: skip
_SHARES = ("SOFTMAX", "LOGISTIC")


def taught(
    images: Images, teacher: Teacher | Sequence[Teacher],
    augment: Augment | Mapping = _NONE, *, temperature: float = 1.0, alpha: float = 1.0,
) -> Images:  # fmt: skip
    """The images with a teacher's class probabilities as what is to be learnt, view by view.

    Train on them with the same `augment`; the loss is the cross entropy with
    α·softmax(teacher / T) + (1 − α)·onehot, and the accuracy of the training's history is how often
    student and targets agree. Where the augmentation mirrors images, a view and its mirror image have
    the same target, the mean of both answers. Where a method resizes images, the targets stay those
    of the full image moved by as many pixels.

    Args:
        images: to train on.
        teacher: a classifier of them, logits or probabilities: a Keras model, or the path of a
            .keras or .tflite file; or several, whose probabilities are averaged.
        augment: of the training to come; of its views there are (2·pixels + 1)², twice that with flip.
        temperature: T, above 1 the unlikely classes count more.
        alpha: the teacher's share, from 0 to 1.

    Returns:
        Images with `targets`, n·views·classes·2 bytes of them.

    Raises:
        BadInput: a teacher of other images or classes, or whose answers are not finite, a number out
            of range, or targets that do not fit into memory.

    Example:
        seen = {"crop": 2, "flip": "alternate"}
        fit(small, taught(images, "large_int8.tflite", seen), settings=Settings(augment=seen))

    Source: Beyer et al. 2021, "Knowledge distillation: A good teacher is patient and consistent",
    arXiv 2106.05237; Hinton et al. 2015, arXiv 1503.02531.
    """
    check_numbers(temperature=temperature, alpha=alpha, who="taught")
    augment = augment if isinstance(augment, Augment) else make_augment(augment or {})
    several = isinstance(teacher, Sequence) and not isinstance(teacher, str)
    answers = [_answering(one, images) for one in (teacher if several else [teacher])]
    if not answers:
        raise BadInput("taught: no teacher; give one at least")
    right = np.eye(images.num_classes)[images.labels]
    targets = _empty((len(images), augment.views, images.num_classes))
    for number, seen in enumerate(every_view(images.images, augment)):
        soft = np.mean([_softened(answer(seen), temperature) for answer in answers], axis=0)
        targets[:, number] = alpha * soft + (1 - alpha) * right
    if augment.flip:  # a view is followed by its mirror image
        pairs = targets.reshape(len(targets), -1, 2, targets.shape[2])
        pairs[:] = pairs.mean(2, keepdims=True, dtype=np.float32)
    return images.with_targets(targets, augment.kind)


def _softened(scores: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(scores / T) of finite scores (n, classes)."""
    scores = np.asarray(scores, np.float32)
    if not np.isfinite(scores).all():
        raise BadInput("taught: the teacher's answers are not finite; train it again")
    soft = np.exp((scores - scores.max(1, keepdims=True)) / temperature)
    return soft / soft.sum(1, keepdims=True)


def _empty(shape: tuple[int, int, int]) -> np.ndarray:
    """Room for so many targets; BadInput if they and the pipeline's copy do not fit into memory."""
    needed, free = 2 * 2 * int(np.prod(shape, dtype=object)), free_memory()
    if needed > free:
        raise BadInput(
            f"taught: targets of {shape[0]} images, {shape[1]} views and {shape[2]} classes need "
            f"{needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; take fewer images or "
            "an augmentation of fewer pixels"
        )
    return np.empty(shape, np.float16)


def _answering(teacher, images: Images) -> Callable[[np.ndarray], np.ndarray]:
    """From uint8 images to scores: logits, or logarithms of probabilities."""
    if not isinstance(teacher, keras.Model | str | os.PathLike):
        raise BadInput(f"taught: teacher={teacher!r}; give a Keras model, or the path of a file")
    if not isinstance(teacher, keras.Model) and pathlib.Path(teacher).suffix == ".tflite":
        return _of_file(pathlib.Path(teacher), images)
    model = teacher if isinstance(teacher, keras.Model) else models.load(teacher)
    try:
        shape = images.images.shape[1:]
        losses.check_outputs(model, "cross_entropy", shape, images.num_classes)
    except BadInput as error:
        raise BadInput(f"taught: the teacher: {str(error).removeprefix('fit: ')}") from None
    probabilities = losses.gives_probabilities(model)

    def answer(pixels):
        scores = model.predict(pixels.astype(np.float32) / 255, batch_size=500, verbose=0)
        return _logarithm(scores) if probabilities else scores

    return answer


def _of_file(path: pathlib.Path, images: Images):
    contents = flatbuffer.inspect(path)
    shapes = [tensor.shape[1:] for tensor in (*contents.inputs, *contents.outputs)]
    wanted = [images.images.shape[1:], (images.num_classes,)]
    if shapes != wanted:
        raise BadInput(
            f'taught: the teacher "{path}" reads and gives {shapes}, the images need {wanted}'
        )
    probabilities = _gives_probabilities(path)

    def answer(pixels):
        (scores,) = litert.run(
            path, pixels, divide_by=255.0, timeout=_PATIENCE * max(len(pixels), 5000)
        ).values()
        return _logarithm(scores) if probabilities else scores

    return answer


def _gives_probabilities(path: pathlib.Path) -> bool:
    """Whether the file ends in a softmax, or in an average of some."""
    found = steps.read(path.read_bytes())
    pending = [step for step in found if step.is_output]
    while pending:
        step = pending.pop()
        if step.operator in _SHARES:
            return True
        if step.operator in _PASSING:
            pending += [found[number] for number in step.sources]
    return False


def _logarithm(shares: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(shares, np.float32), 1e-7))
