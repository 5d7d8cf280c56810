"""Each method with settings that act within four steps of a tiny network: the table of the
cross-cutting tests. A folder in tfeffi/methods without a line here fails them; what follows a comma in
a name tells several ways to use a method apart.

usage: python -m tests.methods.every      (trains with two replicas; prints JSON)
"""

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.train.cases import images
from tfeffi import compress, methods
from tfeffi.methods import NoEffectWarning
from tfeffi.train import Settings, fit


@dataclasses.dataclass(frozen=True)
class Case:
    """How a method is tried: its settings, bad ones, and what it needs around it.

    `bad` are settings and a piece of the message; `prepare` makes the model it starts from; `train`
    are fields of `Settings`; `smaller` says whether it leaves fewer parameters.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bad: tuple[Mapping[str, Any], str] | None = None
    prepare: Callable[[keras.Model], keras.Model] = lambda model: model
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    smaller: bool = False


def planted_zeros(model: keras.Model) -> keras.Model:
    """Two channels that nothing makes and nothing reads: PruneTrain finds them after an epoch."""
    first, second = (model.get_layer(name) for name in ("first", "second"))
    made, read = np.array(first.kernel), np.array(second.kernel)
    made[..., :2], read[:, :, :2] = 0, 0
    first.kernel.assign(made)
    second.kernel.assign(read)
    return model


CASES = {
    "batch_growth": Case(
        {"max_batch": 32}, ({"max_batch": 0}, "max_batch=0"),
        train={"schedule": {"name": "step", "milestones": (1,), "factor": 0.5}},
    ),
    "keep_zeros": Case(prepare=lambda model: compress.sparsify(model, 0.5)[0]),
    "look_ahead": Case({"interval": 2}, ({"interval": 0}, "interval=0")),
    "momentum_correction": Case(train={"schedule": {"name": "constant", "warmup_epochs": 2}}),
    "net2net": Case(
        {"epochs": (1,), "widen": {"second": 6}},
        ({"epochs": (1,), "widen": 0.5}, "widen=0.5 asks for fewer channels"),
    ),
    "net2net, nothing fused": Case(
        {"epochs": (1,), "widen": {"second": 6}},
        train={"fuse_batch_normalization": False, "fuse_activations": False},
    ),
    "progressive_resizing": Case(
        {"sizes": [(0, 6), (1, 8)]}, ({"sizes": [(1, 6), (0, 8)]}, "must be pairs")
    ),
    "prune_train": Case(
        {"interval": 1}, ({"ratio": 1.5}, "ratio=1.5"), prepare=planted_zeros, smaller=True
    ),
    "prune_train, within an epoch": Case(
        {
            "ratio": 0.01, "interval": 1 / 2, "start": 0, "variant": "proximal", "weighting": "macs",
            "coupled": True,
        },
        ({"interval": 0.3}, "interval=0.3"), prepare=planted_zeros, smaller=True,
    ),
    "shared_weights": Case(prepare=lambda model: compress.cluster(model, 4)[0]),
    "switch_optimizer": Case(
        {"epoch": 1, "optimizer": {"name": "convolution_muon"}, "learning_rate": 0.02},
        (
            {"epoch": 0, "optimizer": {"name": "sgd"}, "learning_rate": 0.1},
            "epoch=0 must be a whole number",
        ),
    ),
    "whitening": Case({"layer": "first"}, ({"images": 0}, "images=0")),
}  # fmt: skip


def network(norm: bool) -> keras.Model:
    """Two convolutions, global pooling, logits; 8x8 pixels or any other size."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(18, 3, padding="same", name="first")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.7, name="norm")(x) if norm else x
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(x))


def make(name: str) -> methods.Method:
    """The method of a line of the table."""
    return methods.build(name.split(",")[0], **CASES[name].settings)


def start(name: str, norm: bool = False) -> keras.Model:
    """The model that a method's training begins with; two replicas have one's steps without norm."""
    return CASES[name].prepare(network(norm))


def train(name: str, model: keras.Model, precision="float32", acts=True, **arguments):
    """Two epochs of two steps with a method that finds something to do; or the same without it."""
    settings = Settings(**{
        "epochs": 2, "batch_size": 16, "precision": precision, "checkpoint_seconds": 0.0,
        "optimizer": {"name": "sgd", "momentum": 0.9}, **CASES[name].train,
    })  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        return fit(
            model, images(40), settings=settings, methods=[make(name)] * acts, verbose=False,
            **arguments,
        )  # fmt: skip


def numbers(made) -> list[float]:
    """What tells a training from another: its losses and the kernel of its logits."""
    return [row["loss"] for row in made.history] + np.ravel(made.model.weights[-2]).tolist()


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    found, strategy = {}, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name in CASES:
        found[name] = numbers(train(name, start(name), strategy=strategy))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
