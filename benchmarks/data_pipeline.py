"""How many images a second does the input pipeline deliver, and how many does training consume?

    python benchmarks/data_pipeline.py

Random images of 32x32x3, batch 256, from memory: as they are, and with the crop and flip of CIFAR,
with nobody computing on them. Beside it, in the same run, the obvious way (the same augmentation in
a tf.data map over single images with tf.image, shuffled with a buffer), and the training step that
consumes most: ResNet-20 of width 16 in mixed_bfloat16. They take turns, so that what disturbs the
machine disturbs all of them; a ratio is the median of the ratios of the rounds. Two minutes on 2
cores.
"""

import functools
import statistics
import time
from collections.abc import Callable

from absl import flags

from tfeffi.tools import app

_OUTPUT = flags.DEFINE_string("output", "results/data_pipeline.json", "the result file")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each variant")
_SECONDS = flags.DEFINE_float("seconds", 1.5, "how long a turn lasts")

IMAGES, BATCH_SIZE, SHAPE, CLASSES = 20_000, 256, (32, 32, 3), 10
STEPS = 6  # of training, a turn
ONE_BY_ONE = "one image at a time, crop 4, flip"
TRAINING = "training step, ResNet-20 width 16, mixed_bfloat16"


def random_images(count: int = IMAGES, shape: tuple[int, int, int] = SHAPE):
    """Noise as `tfeffi.data.Images`; the pipeline's speed does not depend on what they show."""
    import numpy as np

    from tfeffi.data import Images

    rng = np.random.default_rng(0)
    return Images.from_arrays(
        rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, CLASSES, count)
    )


def pipeline_images_per_second(
    data=None, batch_size: int = BATCH_SIZE, augment=None, seconds: float = 1.5
) -> float:
    """Images a second of the training pipeline alone, over whole epochs, their start included.

    Args:
        data: a `tfeffi.data.Images`; default noise of 32x32x3.
        batch_size: images a batch.
        augment: a `tfeffi.data.Augment`; default crop 4 and flip.
        seconds: how long to measure, at least; whole epochs are taken.
    """
    from tfeffi.data import Augment, pipeline

    data = random_images() if data is None else data
    augment = Augment(crop=4, flip=True) if augment is None else augment

    def epoch(number: int):
        return pipeline(data, batch_size, training=True, epoch=number, augment=augment)

    return _images_per_second(epoch, batch_size, seconds)


def _images_per_second(epoch: Callable, batch_size: int, seconds: float) -> float:
    for _ in epoch(0).take(4):  # the first epoch of a process also starts tf.data's threads
        pass
    images, number, begun = 0, 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        number += 1
        for _ in epoch(number):
            images += batch_size
    return images / (time.perf_counter() - begun)


def _one_by_one(data) -> Callable:
    """The same augmentation as tutorials have it, one image at a time."""
    import tensorflow as tf

    height, width, channels = SHAPE

    def augmented(image, label):
        image = tf.cast(image, tf.float32) / 255.0
        image = tf.image.resize_with_crop_or_pad(image, height + 8, width + 8)
        image = tf.image.random_crop(image, (height, width, channels))
        return tf.image.random_flip_left_right(image), label

    source = tf.data.Dataset.from_tensor_slices((data.images, data.labels))

    def epoch(number: int):
        shuffled = source.shuffle(len(data), seed=number)
        mapped = shuffled.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
        return mapped.batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    return epoch


def _training(data) -> Callable[[], float]:
    """Images a second of tfeffi's training loop on ResNet-20, its own pipeline included."""
    from tfeffi import models
    from tfeffi.data import pipeline
    from tfeffi.train import Settings, loop

    settings = Settings(
        batch_size=BATCH_SIZE, learning_rate=0.01, schedule={"name": "constant"},
        precision="mixed_bfloat16",
    )  # fmt: skip
    model = models.build("resnet_cifar", depth=20, width=16, input_shape=SHAPE, num_classes=CLASSES)
    data = data[: STEPS * BATCH_SIZE]
    run = loop.begin(model, data, None, settings)
    step = loop.CompiledStep(run)

    def turn() -> float:
        begun = time.perf_counter()
        for batch in pipeline(data, BATCH_SIZE, training=True):
            step(*batch)
        float(run.totals.loss)  # waits for the last step
        return len(data) / (time.perf_counter() - begun)

    turn()  # compiles
    return turn


def main(_):
    """Measures, prints, writes."""
    from tfeffi.data import Augment
    from tfeffi.study.results import Result

    data, seconds = random_images(), _SECONDS.value
    augments = {
        "pipeline, crop 4, flip": Augment(crop=4, flip=True),
        "pipeline, translate 2, flip": Augment(translate=2, flip=True),
        "pipeline, no augmentation": Augment(),
    }
    turns = {
        name: functools.partial(pipeline_images_per_second, data, augment=a, seconds=seconds)
        for name, a in augments.items()
    }
    turns[ONE_BY_ONE] = lambda: _images_per_second(_one_by_one(data), BATCH_SIZE, seconds)
    turns[TRAINING] = _training(data)
    rounds = []
    for number in range(_ROUNDS.value):
        rounds.append({name: turn() for name, turn in turns.items()})
        print(f"round {number + 1} of {_ROUNDS.value}", flush=True)
    result = Result.new("data_pipeline")
    for name in turns:
        speeds = [one[name] for one in rounds]
        ratios = [one[name] / one[TRAINING] for one in rounds]
        against = {
            "times_training": round(statistics.median(ratios), 1),
            "times_training_lowest": round(min(ratios), 1),
            "ratio_to": TRAINING,
        }
        row = result.add_row(
            name=name,
            n=len(speeds),
            batch_size=BATCH_SIZE,
            image_shape=list(SHAPE),
            images_per_second=round(statistics.median(speeds)),
            images_per_second_lowest=round(min(speeds)),
            images_per_second_highest=round(max(speeds)),
            **({} if name == TRAINING else against),
        )
        times = "" if name == TRAINING else f"{row['times_training']:>9.1f} x"
        print(f"{name:50} {row['images_per_second']:>9,} images/s {times}")
    result.write(_OUTPUT.value)
    print(f"wrote {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
