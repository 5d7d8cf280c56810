"""The embedded data set: a class-balanced part of Fashion-MNIST, for a first run without network.

The first 1000 training and 200 test images of each of the 10 classes, in the order of
Fashion-MNIST (Zalando SE, MIT licence, see fashion_mini.LICENSE.txt). Made by make_fashion_mini.py.
"""

import functools
import pathlib

import numpy as np

from tfeffi.data.sources import FASHION_NAMES, Arrays

NAME = "fashion_mini"
CLASS_NAMES = FASHION_NAMES
SHAPE = (28, 28, 1)
PER_CLASS = {"train": 1000, "test": 200}
PATH = pathlib.Path(__file__).with_name("fashion_mini.npz")


def split_infos() -> dict:
    """Split → its `tfds.core.SplitInfo`, so that TFDS's split language works here too."""
    from tensorflow_datasets.core import SplitInfo

    return {
        split: SplitInfo(name=split, shard_lengths=[each * len(CLASS_NAMES)], num_bytes=0)
        for split, each in PER_CLASS.items()
    }


def read(spans: list[tuple[str, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 28, 28, 1) and labels int64 (n,) of (split, first, last + 1) spans."""
    held = _arrays()
    parts = [(held[s][0][first:last], held[s][1][first:last]) for s, first, last in spans]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


@functools.cache
def _arrays() -> Arrays:
    with np.load(PATH) as file:
        return {s: (file[f"{s}_images"], file[f"{s}_labels"].astype(np.int64)) for s in PER_CLASS}
