"""Trains on targets with one replica and with two, in a process of two logical CPUs; prints losses."""

import keras
import numpy as np
import tensorflow as tf

from tfeffi import compress, data, train

if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    images = data.Images.from_arrays(pixels, random.integers(0, 4, 40), "abcd")
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4, name="logits")]
    student, teacher = (
        keras.Sequential(layers),
        keras.Sequential(layers[:2] + [keras.layers.Dense(4)]),
    )
    seen = {"crop": 1, "flip": True}
    taught = compress.taught(images, teacher, seen)
    settings = train.Settings(epochs=2, batch_size=20, learning_rate=0.05, augment=seen)
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
        made = train.fit(student, taught, settings=settings, strategy=strategy, verbose=False)
        print(made.history[-1]["loss"])
