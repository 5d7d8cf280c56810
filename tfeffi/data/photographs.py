"""Photographs out of ordinary packages, in two halves: to tune a model to, and to judge it by.

They carry no training labels, but those of foolbox their ImageNet class; no photograph is in both
halves, whichever crop of it.
"""

import dataclasses
import os
import pathlib
import re

import numpy as np

from tfeffi.data import archives, fetch
from tfeffi.data.images import DataError

NAMES = {
    "foolbox": (
        "00_243", "01_559", "02_438", "03_990", "04_949", "05_853", "06_609", "07_609", "08_915",
        "09_455", "10_541", "11_630", "12_741", "13_471", "14_129", "15_99", "16_251", "17_22",
        "18_317", "19_305",
    ),
    "scikit_image": (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png",
        "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
        "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
    ),
    "scikit_learn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
_MEMBERS = {
    "foolbox": "foolbox/data/imagenet_{}.jpg",
    "scikit_image": "skimage/data/{}",
    "scikit_learn": "sklearn/datasets/images/{}",
}
_LEAST_SHARE = 0.5  # of the shorter side that a random crop has


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Crops of photographs.

    Attributes:
        images: float32 (n, size, size, 3) in [0, 1].
        labels: (n,) the class in ImageNet; -1 where it is not known.
        names: (n,) of the photographs, one view after the other.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]


def load(
    cache: str | os.PathLike = fetch.CACHE, *, size: int = 224, tuning: int = 4, held: int = 4
) -> tuple[Views, Views]:
    """Both halves: every other photograph of each package.

    Args:
        cache: where the packages stay; they are fetched into it if need be.
        size: height and width of a view.
        tuning, held: views of each photograph in either half: the square in the middle, then random
            squares, half of them mirrored.

    Returns:
        The views to tune to, and those to judge by.

    Raises:
        DataError: a package cannot be had, or holds another thing.
    """
    halves: tuple[list, list] = [], []
    for package, names in NAMES.items():
        members = [_MEMBERS[package].format(name) for name in names]
        held_bytes = archives.members(fetch.package(package, cache), members)
        for index, member in enumerate(members):
            halves[index % 2].append((member, held_bytes[member]))
    return _views(halves[0], size, tuning, seed=0), _views(halves[1], size, held, seed=1)


def views(image: np.ndarray, size: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Square views of one photograph.

    Args:
        image: (height, width, 3) in [0, 255].
        size: height and width of a view.
        count: how many: the first is the square in the middle.
        random: draws the others.

    Returns:
        float32 (count, size, size, 3) in [0, 1].
    """
    import tensorflow as tf

    height, width = image.shape[:2]
    shorter = min(height, width)
    found = []
    for index in range(count):
        side = shorter if index == 0 else int(shorter * random.uniform(_LEAST_SHARE, 1.0))
        top, left = (
            (length - side) // 2 if index == 0 else random.integers(0, length - side + 1)
            for length in (height, width)
        )
        view = image[top : top + side, left : left + side]
        view = tf.image.resize(view, (size, size), antialias=True).numpy() / 255
        found.append(view[:, ::-1] if index % 2 else view)
    return np.clip(np.stack(found), 0, 1).astype(np.float32)


def _views(files: list[tuple[str, bytes]], size: int, count: int, seed: int) -> Views:
    import tensorflow as tf

    random = np.random.default_rng(seed)
    images, labels, names = [], [], []
    for name, content in files:
        try:
            image = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise DataError(f'photograph "{name}" cannot be decoded') from error
        images.append(views(image, size, count, random))
        known = re.search(r"imagenet_\d+_(\d+)", name)
        labels += [int(known[1]) if known else -1] * count
        names += [pathlib.PurePath(name).stem] * count
    return Views(np.concatenate(images), np.array(labels), tuple(names))
