"""What is known of the true data sets; each test needs tfeffi-fetch-data to have been run."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfeffi.data import NotPrepared, load

pytestmark = pytest.mark.slow


def fetched(name):
    try:
        return load(name, "train"), load(name, "test")
    except NotPrepared as error:
        pytest.skip(str(error))


TRUTHS = {
    "cifar10": ((32, 32, 3), (50_000, 10_000), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((28, 28, 1), (60_000, 10_000), (0.1307,), (0.3081,)),
    "fashion_mnist": ((28, 28, 1), (60_000, 10_000), (0.2860,), (0.3530,)),
}
# As tfds.load gives them where TFDS itself has made them: the order is part of a split like [:90%].
FIRST_LABELS = {
    "cifar10": [7, 8, 4, 4, 6, 5, 2, 9, 6, 6],
    "mnist": [4, 1, 0, 7, 8, 1, 2, 7, 1, 6],
    "fashion_mnist": [2, 1, 8, 4, 1, 9, 2, 2, 0, 2],
}


@pytest.mark.parametrize("name", TRUTHS)
def test_size_mean_and_standard_deviation(name):
    train, test = fetched(name)
    shape, counts, mean, std = TRUTHS[name]
    assert train.images.shape == (counts[0], *shape) and test.images.shape == (counts[1], *shape)
    np.testing.assert_allclose(train.images.mean((0, 1, 2)) / 255, mean, atol=6e-5)
    np.testing.assert_allclose(train.images.std((0, 1, 2)) / 255, std, atol=6e-5)
    if name != "mnist":
        assert np.bincount(train.labels).tolist() == [counts[0] // 10] * 10
        assert np.bincount(test.labels).tolist() == [counts[1] // 10] * 10


@pytest.mark.parametrize("name", FIRST_LABELS)
def test_the_order_is_the_one_of_tfds(name):
    train, _ = fetched(name)
    assert train.labels[:10].tolist() == FIRST_LABELS[name]


def test_cifar10_in_the_order_of_its_archive():
    fetched("cifar10")
    for split, labels in (("train", [6, 9, 9, 4, 1, 1]), ("test", [3, 8, 8, 0, 6, 6])):
        read = tfds.load("cifar10", split=split, download=False).as_numpy_iterator()
        held = {example["id"].decode(): int(example["label"]) for example in read}
        assert [held[f"{split}_{i:05d}"] for i in range(6)] == labels


def test_fashion_mini_is_a_part_of_fashion_mnist():
    whole, _ = fetched("fashion_mnist")
    known = {image.tobytes() for image in whole.images}
    assert all(image.tobytes() in known for image in load("fashion_mini", "train").images)
