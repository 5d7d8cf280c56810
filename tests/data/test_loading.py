"""Loading: the embedded set, sets that TFDS keeps, and everything that can be wrong with them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.data import made
from tfeffi.data import DataError, NotPrepared, load
from tfeffi.errors import BadInput

# ---------------------------------------------------------------- fashion_mini


def test_fashion_mini_is_class_balanced_and_like_the_whole():
    train, test = load(), load("fashion_mini", "test")
    assert train.images.shape == (10_000, 28, 28, 1) and test.images.shape == (2000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [1000] * 10
    assert np.bincount(test.labels).tolist() == [200] * 10
    assert train.class_names[0] == "T-shirt/top" and train.class_names[9] == "Ankle boot"
    assert train.images.mean() / 255 == pytest.approx(0.2860, abs=2e-3)
    assert train.images.std() / 255 == pytest.approx(0.3530, abs=2e-3)
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as in Fashion-MNIST


@pytest.mark.parametrize(
    ("split", "where"),
    [
        ("train[:90%]", slice(0, 9000)),
        ("train[90%:]", slice(9000, None)),
        ("train[-10:]", slice(9990, None)),
        ("train[100:200]", slice(100, 200)),
        ("train[:1%]", slice(0, 100)),
    ],
)
def test_fashion_mini_speaks_tfds_split_language(split, where):
    whole, part = load(), load(split=split)
    np.testing.assert_array_equal(part.images, whole.images[where])
    np.testing.assert_array_equal(part.labels, whole.labels[where])
    assert part.split == split


def test_splits_can_be_added():
    both = load(split="test[:3]+train[5:7]")
    np.testing.assert_array_equal(both.images[:3], load(split="test").images[:3])
    np.testing.assert_array_equal(both.images[3:], load().images[5:7])
    assert len(load(split="all")) == 12_000


def test_images_can_be_resized():
    whole, half = load(split="test[:50]"), load(split="test[:50]", image_size=14)
    assert half.images.shape == (50, 14, 14, 1)
    mean = whole.images.reshape(50, 14, 2, 14, 2).mean((2, 4))
    assert np.abs(half.images[..., 0] - mean).mean() < 12  # antialiased: near the means of 2x2
    wide = load(split="test[:50]", image_size=(14, 28))
    np.testing.assert_array_equal(
        wide.images, whole.images[:, 7:21]
    )  # covers, cropped in the middle


# ---------------------------------------------------------------- sets of TFDS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data_dir with small sets of its own."""
    root, rng = tmp_path_factory.mktemp("tfds"), np.random.default_rng(0)
    image, label = tfds.features.Image, tfds.features.ClassLabel

    def rows(labels, size=lambda i: (6, 5, 3)):
        return [
            {"image": rng.integers(0, 256, size(i), np.uint8), "label": k}
            for i, k in enumerate(labels)
        ]

    names = label(names=["cat", "dog", "eel"])
    same = {"image": image(shape=(6, 5, 3)), "label": names}
    free = {"image": image(shape=(None, None, 3)), "label": names}
    made.store(root, "pets", same, {"train": rows([0, 1, 2] * 100), "test": rows([2, 1])})
    made.store(root, "unlabelled", same, {"train": rows([0, 1]), "test": rows([-1, -1])})
    made.store(root, "photos", free, {"train": rows([0, 1, 2], lambda i: (8 + i, 9, 3))})
    made.store(root, "alike", free, {"train": rows([0, 1, 2])})
    made.store(root, "boxes", {"image": image(shape=(6, 5, 3))},
               {"train": [{"image": np.zeros((6, 5, 3), np.uint8)}]})  # fmt: skip
    made.store(root, "deep", {"image": image(shape=(6, 5, 1), dtype=np.uint16), "label": names},
               {"train": [{"image": np.zeros((6, 5, 1), np.uint16), "label": 0}]})  # fmt: skip
    return root


def test_a_set_of_tfds_is_read_as_tfds_reads_it(root):
    data = load("pets", "train[10%:]", data_dir=root)
    told = list(tfds.load("pets", split="train[10%:]", data_dir=root).as_numpy_iterator())
    np.testing.assert_array_equal(data.images, [example["image"] for example in told])
    np.testing.assert_array_equal(data.labels, [example["label"] for example in told])
    assert len(data) == 270 and data.class_names == ("cat", "dog", "eel")
    assert data.labels[:4].tolist() == [0, 1, 2, 0]
    both = load("pets:1.0.0", "test+train[:1]", data_dir=root)
    assert both.labels.tolist() == [2, 1, 0]


def test_images_that_differ_in_size_need_image_size(root):
    with pytest.raises(DataError, match="differ in size, 8x9x3 and 9x9x3; give image_size"):
        load("photos", data_dir=root)
    assert load("photos", data_dir=root, image_size=8).images.shape == (3, 8, 8, 3)
    assert load("alike", data_dir=root).images.shape == (3, 6, 5, 3)


def test_data_dir_is_the_one_of_tfds(root):
    """In a process of its own: TFDS reads the variable when it is imported."""
    import os
    import subprocess
    import sys

    code = "from tfeffi.data import prepared as p; print(p.prepared_builder('pets').data_dir)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "TFDS_DATA_DIR": str(root)}, check=True)  # fmt: skip
    assert told.stdout.strip() == str(root / "pets" / "1.0.0")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"name": "cifar1"}, '"cifar1" is not known; did you mean .*"cifar10"'),
        ({"name": "fashion_mimi"}, '"fashion_mini"'),
        ({"name": "xqzzyv"}, "list_builders"),
        ({"name": "huggingface:mnist"}, "is not known"),
        ({"name": "mnist:9.9.9"}, "9.9.9"),
        ({"split": "tran"}, 'has no split "tran"; did you mean "train"'),
        ({"name": "pets", "split": "validation"}, 'has no split "validation"'),
        ({"split": "train[:0]"}, r'split "train\[:0\]" is empty; images there are: train 10000'),
        ({"name": "pets", "split": "train[5:5]"}, "is empty"),
        ({"split": "train[:20000]"}, "20000"),
        ({"split": "train[1:"}, "cannot be read"),
        ({"name": "unlabelled", "split": "test"}, "label -1 of image 0"),
        ({"name": "boxes"}, "not for image classification: it holds image"),
        ({"name": "deep"}, "images are uint16"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": (3, 4, 5)}, "image_size="),
        ({"image_size": 100_000}, r"10000 images of 100000x100000x1 need .* GiB .* smaller"),
        ({"name": "pets", "image_size": 1_000_000}, r"300 images of 1000000x1000000x3 need"),
    ],
)
def test_what_cannot_be_loaded_says_why_in_one_line(root, wanted, words):
    with pytest.raises(BadInput, match=words) as caught:
        load(**{"data_dir": root, **wanted})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cifar10", "run: tfeffi-fetch-data --dataset=cifar10 --data_dir="),
        ("cifar100", "run: tfds build cifar100 --data_dir="),
    ],
)
def test_what_is_not_prepared_names_the_command_and_downloads_nothing(tmp_path, name, command):
    with pytest.raises(NotPrepared, match=command) as caught:
        load(name, data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["cut", "cut between records", "garble", "remove"])
def test_damaged_files_are_never_read_as_if_whole(tmp_path, harm):
    label = tfds.features.ClassLabel(num_classes=2)
    features = {"image": tfds.features.Image(shape=(6, 5, 3)), "label": label}
    rows = [{"image": np.full((6, 5, 3), i, np.uint8), "label": i % 2} for i in range(20)]
    made.store(tmp_path, "pets", features, {"train": rows})
    assert len(load("pets", data_dir=tmp_path)) == 20
    (shard,) = tmp_path.glob("pets/1.0.0/*tfrecord*")
    content = bytearray(shard.read_bytes())
    if harm == "remove":
        shard.unlink()
    elif harm == "cut between records":
        records = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in records[:-3]:
                writer.write(record)
    elif harm == "cut":
        shard.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    with pytest.raises(NotPrepared, match=r"is damaged .*remove that folder") as caught:
        load("pets", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_loading_leaves_absl_logging_as_it_was(root):
    from absl import logging

    before = logging.get_verbosity()
    load("pets", data_dir=root)
    assert logging.get_verbosity() == before and tf.executing_eagerly()
