"""PruneTrain with one replica and with two, in a process that has two logical CPUs; prints rows."""

import functools
import itertools
import json

import keras
import tensorflow as tf

from tests.methods.test_prune_train import EAGER, planted
from tests.train.cases import images
from tfeffi import methods
from tfeffi.train import Settings, fit


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    found = {}
    replicas = {"one": None, "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
    networks = {
        "": {},
        ", plain": {"normalization": functools.partial(keras.layers.Activation, "linear")},
    }
    for variant, network, name in itertools.product(("threshold", "proximal"), networks, replicas):
        keras.utils.set_random_seed(0)
        when = {"interval": 1 / 3, "start": 0} if variant == "proximal" else {}  # of three steps
        method = methods.build("prune_train", **{**EAGER, "variant": variant, **when})
        made = fit(
            planted(**networks[network]), images(96), images(48, seed=1),
            Settings(epochs=2, batch_size=32, learning_rate=0.05), methods=[method],
            strategy=replicas[name], verbose=False,
        )  # fmt: skip
        rows = {key: [row[key] for row in made.history] for key in ("loss", "macs", "train_macs")}
        found[f"{variant}{network} {name}"] = rows
    print(json.dumps(found))


if __name__ == "__main__":
    main()
