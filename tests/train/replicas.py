"""Trains with one replica and with two, in a process that has two logical CPUs; prints losses."""

import json
import tempfile

import tensorflow as tf

from tests.train.cases import convnet, images
from tfeffi.train import Settings, fit


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    start, found = convnet(norm=False), {}
    for precision in ("float32", "mixed_float16"):
        for name, strategy in (
            ("one", None),
            ("two", tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
        ):
            settings = Settings(
                epochs=3, batch_size=32, l2=1e-3, precision=precision, early_stopping=5,
                checkpoint_seconds=0.0,
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                made = fit(start, images(), images(48, seed=1), settings, strategy=strategy,
                           workdir=folder, verbose=False)  # fmt: skip
            weights = made.model.get_layer("logits").kernel.numpy()[0].tolist()
            found[f"{precision} {name}"] = [row["loss"] for row in made.history] + weights
    print(json.dumps(found))


if __name__ == "__main__":
    main()
