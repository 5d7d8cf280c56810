"""What a teacher says to every view of the training images, asked once and learnt for many epochs.

Student and teacher see the very same crops: the consistent teaching that pays over long schedules. An
8-bit file answers several times faster than the network it came from.
"""

import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from tfeffi import models
from tfeffi.data import Augment, Images
from tfeffi.data.batches import every_view
from tfeffi.errors import BadInput
from tfeffi.export import litert
from tfeffi.train.losses import gives_probabilities
from tfeffi.train.settings import make_augment

_NONE = Augment()


def taught(
    images: Images, teacher: keras.Model | str | os.PathLike,
    augment: Augment | Mapping = _NONE, *, temperature: float = 1.0, alpha: float = 1.0,
) -> Images:  # fmt: skip
    """The images with a teacher's class probabilities as what is to be learnt, view by view.

    Train on them with the same `augment`; the loss is the cross entropy with
    α·softmax(teacher / T) + (1 − α)·onehot. Where a method resizes images, the targets stay those of
    the full image moved by as many pixels.

    Args:
        images: to train on.
        teacher: a classifier of them, logits or probabilities: a Keras model, or the path of a
            .keras or .tflite file.
        augment: of the training to come; of its views there are (2·pixels + 1)², twice that with flip.
        temperature: T, above 1 the unlikely classes count more.
        alpha: the teacher's share, from 0 to 1.

    Returns:
        Images with `targets`, n·views·classes·2 bytes of them.

    Raises:
        BadInput: a teacher of other classes, or a number out of range.

    Example:
        seen = {"crop": 2, "flip": "alternate"}
        fit(small, taught(images, "large_int8.tflite", seen), settings=Settings(augment=seen))

    Source: Beyer et al. 2021, "Knowledge distillation: A good teacher is patient and consistent",
    arXiv 2106.05237; Hinton et al. 2015, arXiv 1503.02531.
    """
    if not temperature > 0 or not 0 <= alpha <= 1:
        raise BadInput(
            f"taught: temperature={temperature} must be above 0, alpha={alpha} from 0 to 1"
        )
    augment = augment if isinstance(augment, Augment) else make_augment(augment)
    answer, right = _answering(teacher), np.eye(images.num_classes)[images.labels]
    targets = np.empty((len(images), augment.views, images.num_classes), np.float16)
    for number, seen in enumerate(every_view(images.images, augment)):
        scores = answer(seen)
        if scores.shape != right.shape:
            raise BadInput(
                f"taught: the teacher answers with {scores.shape[1:]} scores, the images have "
                f"{images.num_classes} classes"
            )
        soft = np.exp((scores - scores.max(1, keepdims=True)) / temperature)
        soft /= soft.sum(1, keepdims=True)
        targets[:, number] = alpha * soft + (1 - alpha) * right
    return images.with_targets(targets)


def _answering(teacher):
    """A function from uint8 images to scores: logits, or logarithms of probabilities."""
    if not isinstance(teacher, keras.Model) and pathlib.Path(teacher).suffix == ".tflite":

        def of_file(pixels):
            outputs = litert.run(teacher, pixels, divide_by=255.0)
            scores = next(iter(outputs.values()))
            is_share = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=0.05)
            return np.log(np.maximum(scores, 1e-7)) if is_share else scores

        return of_file
    model = teacher if isinstance(teacher, keras.Model) else models.load(teacher)
    probabilities = gives_probabilities(model)

    def of_model(pixels):
        scores = model.predict(pixels.astype(np.float32) / 255, batch_size=500, verbose=0)
        return np.log(np.maximum(scores, 1e-7)) if probabilities else scores

    return of_model
