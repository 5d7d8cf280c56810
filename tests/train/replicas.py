"""Trains with two replicas, in a process that has two logical CPUs; prints what came of it."""

import dataclasses
import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tests.train.cases import convnet, images
from tfeffi.train import Settings, fit


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    print(json.dumps({"steps": steps, "moving_mean": moving_mean}[sys.argv[1]]()))


def mirrored():
    """Shapes of one model only in a process: each strategy numbers its messages from the start."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def steps():
    """The losses and some weights of trainings, by name."""
    start, found = convnet(norm=False, activation="gelu"), {}
    for precision in ("float32", "mixed_float16"):
        for name, strategy in (("two", mirrored()), ("one", None)):  # a replica makes the look-up
            settings = Settings(
                epochs=3, batch_size=32, l2=1e-3, precision=precision, early_stopping=5,
                checkpoint_seconds=0.0,
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                made = fit(start, images(), images(48, seed=1), settings, strategy=strategy,
                           workdir=folder, verbose=False)  # fmt: skip
            weights = made.model.get_layer("logits").kernel.numpy()[0].tolist()
            found[f"{precision} {name}"] = [row["loss"] for row in made.history] + weights
    return found


def moving_mean():
    """What is left of a moving mean of 2 of white, and the momentum of the trained layer.

    One step of 32 images: 16 a replica; of all at once, or as two ghost batches of 8.
    """
    synchronized = sys.argv[2] == "synchronized"
    inputs = keras.Input((8, 8, 1))
    norm = keras.layers.BatchNormalization(momentum=0.7, synchronized=synchronized, name="norm")
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(norm(inputs))))
    norm.moving_mean.assign([2.0])
    white = dataclasses.replace(images(32), images=np.full((32, 8, 8, 1), 255, "uint8"))
    how = Settings(
        epochs=1, batch_size=32, learning_rate=1e-9, batch_norm_momentum=0.4,
        ghost_batch=None if synchronized else 8,
    )  # fmt: skip
    made = fit(model, white, settings=how, strategy=mirrored(), verbose=False).model
    norm = made.get_layer("norm")
    return [float(norm.moving_mean[0]) - 1, norm.momentum]


if __name__ == "__main__":
    main()
