"""The pipeline: order, augmentation against slices of padded images, resume, bad input."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tfeffi.data import Augment, Images, pipeline
from tfeffi.errors import BadInput


def numbered(n, height=8, width=8, channels=1, seed=0):
    """Random images; the label of each is its index, so that it can be found again."""
    pixels = np.random.default_rng(seed).integers(1, 256, (n, height, width, channels), np.uint8)
    return Images.from_arrays(pixels, np.arange(n))


def collect(dataset):
    """All batches as one array of images and one of labels."""
    batches = [(x.numpy(), y.numpy()) for x, y in dataset]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def candidates(image, augment):
    """Every image that the augmentation may make of one, by slicing what is padded."""
    reach = augment.crop or augment.translate
    padding = [(reach, reach), (reach, reach), (0, 0)]
    padded = np.pad(image, padding, mode="reflect" if augment.translate else "constant")
    height, width = image.shape[:2]
    moved = [
        padded[y : y + height, x : x + width]
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
    ]
    return moved + [one[:, ::-1] for one in moved] if augment.flip else moved


def which(image, of):
    """The index of the candidate that equals the image, or None."""
    return next((i for i, one in enumerate(of) if np.array_equal(image, one)), None)


def bytes_of(images):
    """Back to uint8, exactly."""
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    pixels = np.round(images * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels.astype(np.float32) / np.float32(255), images)
    return pixels


@pytest.mark.parametrize("n", [64, 70])
def test_evaluation_is_in_order_complete_and_unchanged(n):
    data = numbered(n, 5, 7, 3)
    images, labels = collect(pipeline(data, 32, augment=Augment(crop=1, flip=True)))
    np.testing.assert_array_equal(bytes_of(images), data.images)
    np.testing.assert_array_equal(labels, np.arange(n))
    assert labels.dtype == np.int32
    assert len(pipeline(data, 32)) == -(-n // 32)
    assert len(pipeline(data, 32, drop_remainder=True)) == 2


def test_training_shuffles_by_seed_and_epoch_alone():
    data = numbered(70)

    def order(**at):
        images, labels = collect(pipeline(data, 32, training=True, **at))
        np.testing.assert_array_equal(bytes_of(images), data.images[labels])
        return labels.tolist()

    first = order(seed=3, epoch=5)
    assert len(first) == 64 and len(set(first)) == 64  # each once, the remainder dropped
    assert first == order(seed=3, epoch=5)
    assert first != order(seed=3, epoch=6) and first != order(seed=4, epoch=5)
    whole = collect(pipeline(data, 32, training=True, seed=3, epoch=5, drop_remainder=False))[1]
    assert whole[:64].tolist() == first and sorted(whole) == list(range(70))
    other_size = collect(pipeline(data, 10, training=True, seed=3, epoch=5))[1]
    assert other_size[:64].tolist() == first


def test_the_order_of_an_epoch_never_changes_between_versions():
    """A run that was begun with one version of NumPy must resume with another."""
    labels = collect(pipeline(numbered(12), 12, training=True, seed=7, epoch=2))[1]
    assert labels.tolist() == [1, 11, 4, 3, 5, 0, 10, 6, 8, 2, 9, 7]


@settings(max_examples=30)
@given(st.data())
def test_an_epoch_can_be_entered_anywhere(draw):
    n = draw.draw(st.integers(1, 40), "n")
    batch_size = draw.draw(st.integers(1, n), "batch_size")
    training = draw.draw(st.booleans(), "training")
    at = {
        "training": training,
        "seed": draw.draw(st.sampled_from([0, 1, 2**31 - 1]), "seed"),
        "epoch": draw.draw(st.integers(0, 9), "epoch"),
        "augment": draw.draw(st.sampled_from(AUGMENTS), "augment"),
        "drop_remainder": draw.draw(st.sampled_from([None, False, True]), "drop_remainder"),
    }
    data = numbered(n)
    whole = [(x.numpy(), y.numpy()) for x, y in pipeline(data, batch_size, **at)]
    start = draw.draw(st.integers(0, len(whole)), "start_step")
    tail = [(x.numpy(), y.numpy()) for x, y in pipeline(data, batch_size, start_step=start, **at)]
    assert len(tail) == len(whole) - start
    for (x, y), (tail_x, tail_y) in zip(whole[start:], tail, strict=True):
        np.testing.assert_array_equal(x, tail_x)
        np.testing.assert_array_equal(y, tail_y)


AUGMENTS = [
    Augment(),
    Augment(flip=True),
    Augment(crop=2),
    Augment(crop=1, flip=True),
    Augment(translate=2),
    Augment(translate=1, flip=True),
]


@settings(max_examples=40)
@given(st.integers(4, 33), st.integers(4, 33), st.sampled_from([1, 3, 4]), st.data())
def test_each_image_is_moved_and_mirrored_exactly(height, width, channels, draw):
    reach = draw.draw(st.integers(0, min(height, width) // 4), "reach")
    flip = draw.draw(st.booleans(), "flip")
    name = draw.draw(st.sampled_from(["crop", "translate"]), "kind")
    augment = Augment(**{name: reach}, flip=flip)
    data = numbered(6, height, width, channels)
    images, labels = collect(pipeline(data, 6, training=True, augment=augment))
    for image, label in zip(bytes_of(images), labels, strict=True):
        assert which(image, candidates(data.images[label], augment)) is not None


@pytest.mark.parametrize(("size", "count"), [(22, 400), (28, 400), (40, 200), (224, 8)])
def test_no_edge_is_lost_to_rounding(size, count):
    """Sizes at which float32 takes the edge for outside, if nothing is done about it."""
    data, augment = numbered(count, size, size), Augment(crop=4, flip=True)
    images, labels = collect(pipeline(data, count, training=True, augment=augment))
    for image, label in zip(bytes_of(images), labels, strict=True):
        assert which(image, candidates(data.images[label], augment)) is not None


@pytest.mark.parametrize("augment", [Augment(crop=1, flip=True), Augment(translate=1, flip=True)])
def test_all_variants_occur_about_equally_often(augment):
    data = numbered(1800)
    images, labels = collect(pipeline(data, 600, training=True, augment=augment))
    found = [
        which(image, candidates(data.images[label], augment))
        for image, label in zip(bytes_of(images), labels, strict=True)
    ]
    counts = np.bincount(found, minlength=18)  # 9 places, mirrored or not
    assert len(counts) == 18
    assert np.sum((counts - 100) ** 2 / 100) < 45  # chi-square, 17 degrees: p < 0.001


def test_augmentation_depends_on_seed_epoch_step_and_image():
    """Equal images, so that what differs is the augmentation alone."""
    data = Images.from_arrays(np.repeat(numbered(1).images, 64, 0), np.zeros(64, int))

    def made(**at):
        batches = pipeline(data, 32, training=True, augment=Augment(crop=2, flip=True), **at)
        return [x.numpy() for x, _ in batches]

    first, second = made(seed=1, epoch=1)
    assert len(np.unique(first, axis=0)) > 15
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, made(seed=2, epoch=1)[0])
    assert not np.array_equal(first, made(seed=1, epoch=2)[0])
    assert not np.array_equal(made(seed=2, epoch=1)[0], made(seed=1, epoch=2)[0])
    np.testing.assert_array_equal(first, made(seed=1, epoch=1)[0])


def test_batches_have_static_shapes_and_live_on_the_host():
    data = numbered(64, 8, 6, 3)
    images, labels = pipeline(data, 16, training=True, augment=Augment(crop=1)).element_spec
    assert images == tf.TensorSpec((16, 8, 6, 3), tf.float32)
    assert labels == tf.TensorSpec((16,), tf.int32)
    assert pipeline(numbered(60), 16).element_spec[0].shape.as_list() == [None, 8, 8, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a whole number from 1"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"batch_size": 11, "training": True}, "batch_size=11 is larger than the 10"),
        ({"seed": -1}, "seed=-1 must be a whole number from 0"),
        ({"epoch": 2**31}, "epoch=2147483648"),
        ({"start_step": 6}, "start_step=6: an epoch has 5 steps"),
        ({"augment": Augment(crop=3)}, "crop=3 is too much for images of 8x8; at most 2"),
        ({"augment": Augment(translate=4)}, "translate=4 is too much"),
    ],
)
def test_numbers_out_of_range_are_refused(change, words):
    with pytest.raises(BadInput, match=words):
        pipeline(numbered(10), **{"batch_size": 2, **change})


@pytest.mark.parametrize("bad", [{"crop": -1}, {"translate": 0.5}, {"crop": 2, "translate": 1}])
def test_augmentations_that_make_no_sense_are_refused(bad):
    with pytest.raises(BadInput, match="augment"):
        Augment(**bad)


def test_alternate_flip_shows_every_image_from_both_sides_in_two_epochs():
    data, seen = numbered(40), []
    for epoch in range(4):
        batches = pipeline(data, 8, training=True, epoch=epoch, augment=Augment(flip="alternate"))
        images, labels = collect(batches)
        mirrored = {}
        for image, label in zip(bytes_of(images), labels, strict=True):
            mirrored[label] = which(image, [data.images[label], data.images[label][:, ::-1]])
        seen.append([mirrored[label] for label in range(40)])
    assert set(map(sum, zip(seen[0], seen[1], strict=True))) == {1}
    assert seen[0] == seen[2] and seen[1] == seen[3]
    assert 8 < sum(seen[0]) < 32


def test_alternate_flip_and_moves_are_independent_of_each_other():
    augment, data = Augment(flip="alternate", translate=2), numbered(30)
    images, labels = collect(pipeline(data, 30, training=True, augment=augment))
    found = {
        which(i, candidates(data.images[n], augment))
        for i, n in zip(bytes_of(images), labels, strict=True)
    }
    assert None not in found and len(found) > 15


def test_an_unknown_flip_is_told():
    with pytest.raises(BadInput, match="augment flip='often' must be True, False or \"alternate\""):
        Augment(flip="often")
