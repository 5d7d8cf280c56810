"""Archives: small real ones are read, broken ones are refused in one line."""

import json
import lzma

import numpy as np
import pytest

from tests.data import made
from tfeffi.data import WrongArchive, archives
from tfeffi.data.make_fashion_mini import make
from tfeffi.data.sources import SOURCES

PATTERN = "package/data/{}-{}-ubyte"
DEBIAN = "./usr/share/datasets/fashion-mnist/{}-{}-ubyte.gz"


def test_the_idx_files_of_a_tgz_are_read(tmp_path):
    arrays, path = made.digits(), tmp_path / "a.tgz"
    path.write_bytes(made.tar(made.idx_members(arrays, PATTERN)))
    check(SOURCES["mnist"].read(path), arrays)


def test_the_idx_files_of_a_deb_are_read(tmp_path):
    arrays, path = made.digits(), tmp_path / "a.deb"
    path.write_bytes(made.deb(made.idx_members(arrays, DEBIAN)))
    check(SOURCES["fashion_mnist"].read(path), arrays)


def check(read, arrays):
    assert set(read) == {"train", "test"}
    for split, (images, labels) in arrays.items():
        np.testing.assert_array_equal(read[split][0], images[..., None])
        np.testing.assert_array_equal(read[split][1], labels)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_pictures_of_cifar_are_read_row_by_row(tmp_path, channels):
    _, held = made.cifar_archive(tmp_path / "c.tgz", np.random.default_rng(0), channels=channels)
    read = SOURCES["cifar10"].read(tmp_path / "c.tgz")
    for split, (images, labels) in held.items():
        np.testing.assert_array_equal(read[split][0], images)
        np.testing.assert_array_equal(read[split][1], labels)


def test_fashion_mini_takes_the_first_of_each_class_in_order():
    labels = {"train": np.tile(np.arange(10), 1100), "test": np.tile(np.arange(10), 300)}
    full = {
        s: (np.arange(len(y) * 4, dtype=np.uint32).reshape(-1, 2, 2, 1), y)
        for s, y in labels.items()
    }
    small = make(full)
    np.testing.assert_array_equal(small["train_images"], full["train"][0][:10_000])
    np.testing.assert_array_equal(small["test_labels"], full["test"][1][:2000])


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["tgz", "deb"])
def test_truncated_archives_are_refused(tmp_path, kind, keep):
    pattern = PATTERN if kind == "tgz" else DEBIAN
    members = made.idx_members(made.digits(), pattern)
    content = made.tar(members) if kind == "tgz" else made.deb(members)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    refused(lambda: archives.idx_files(path, pattern), "truncated or no archive|no data.tar", path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "a.tgz"
    path.write_bytes(made.tar({"package/index.js": b"x"}))
    refused(lambda: SOURCES["mnist"].read(path), 'holds another thing: no "package/data', path)
    refused(lambda: SOURCES["cifar10"].read(path), "holds another thing", path)
    path.write_bytes(b"<html>not found</html>")
    refused(lambda: SOURCES["mnist"].read(path), "no archive", path)
    refused(lambda: SOURCES["mnist"].read(tmp_path / "none"), "does not exist", "none")


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("train-images-idx3", lambda c: c[:-1], "truncated"),
        ("train-images-idx3", lambda c: c + b"x", "truncated"),
        ("t10k-labels-idx1", lambda c: b"\0\0\x08\3" + c[4:], "not an idx file of rank 1"),
        ("t10k-labels-idx1", lambda c: c[:6], "not an idx file"),
        ("train-images-idx3", lambda c: b"\0\0\x0d\3" + c[4:], "not an idx file"),
    ],
)
def test_broken_idx_files_are_refused(tmp_path, name, spoil, words):
    members, path = made.idx_members(made.digits(), PATTERN), tmp_path / "a.tgz"
    key = f"package/data/{name}-ubyte"
    members[key] = spoil(members[key])
    path.write_bytes(made.tar(members))
    refused(lambda: SOURCES["mnist"].read(path), words, path)


def test_broken_gzip_inside_is_refused(tmp_path):
    members, path = made.idx_members(made.digits(), DEBIAN), tmp_path / "a.deb"
    key = DEBIAN.format("train", "images-idx3")
    members[key] = members[key][:-20]
    path.write_bytes(made.deb(members))
    refused(lambda: SOURCES["fashion_mnist"].read(path), "truncated or not gzip", path)


@pytest.mark.parametrize(
    ("key", "spoil", "words"),
    [
        ("package/test_batch.png", lambda c: c[: len(c) // 2], "not a whole PNG"),
        ("package/test_batch.png", lambda c: b"GIF89a", "not a whole PNG"),
        ("package/test_lables.json", lambda c: c[:-3], "not whole JSON"),
        ("package/test_lables.json", lambda c: b'{"a": 1}', "not a list"),
        ("package/test_lables.json", lambda c: json.dumps([0.5, 1]).encode(), "not a list"),
    ],
)
def test_broken_pictures_and_labels_are_refused(tmp_path, key, spoil, words):
    path = tmp_path / "c.tgz"
    made.cifar_archive(path, np.random.default_rng(0))
    names = [f"package/data_batch_{i}.png" for i in range(1, 6)]
    names += ["package/test_batch.png", "package/train_lables.json", "package/test_lables.json"]
    members = archives.members(path, names)
    members[key] = spoil(members[key])
    path.write_bytes(made.tar(members))
    refused(lambda: SOURCES["cifar10"].read(path), words, path)


def test_a_deb_with_a_broken_inside_is_refused(tmp_path):
    content = made.deb(made.idx_members(made.digits(), DEBIAN))
    path = tmp_path / "a.deb"
    start = content.index(lzma.compress(b"")[:6], content.index(b"data.tar"))
    path.write_bytes(content[: start + 40] + b"\xff" * 20 + content[start + 60 :])
    refused(lambda: SOURCES["fashion_mnist"].read(path), "truncated or no archive", path)


def refused(call, words, path):
    with pytest.raises(WrongArchive, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
