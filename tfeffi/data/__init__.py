"""Images: any TFDS image-classification set, the embedded fashion_mini, tf.data pipelines.

    train = load("fashion_mini", "train[:90%]")
    for images, labels in pipeline(train, 128, training=True, augment=Augment(crop=2, flip=True)):
        ...

CIFAR-10, MNIST and Fashion-MNIST are prepared by the tool tfeffi-fetch-data; nothing is downloaded
behind the user's back.
"""

import importlib

from tfeffi.data.images import DataError, Images, NotPrepared, WrongArchive
from tfeffi.data.loading import load, resized

__all__ = [
    "Augment",
    "DataError",
    "Images",
    "NotPrepared",
    "WrongArchive",
    "load",
    "pipeline",
    "resized",
]


def __getattr__(name: str):
    if name in ("Augment", "pipeline"):  # imports TensorFlow, which fetching data can do without
        return getattr(importlib.import_module("tfeffi.data.batches"), name)
    raise AttributeError(f"module 'tfeffi.data' has no attribute {name!r}")
