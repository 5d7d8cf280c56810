"""Targets of a teacher, view by view: the very crops that the student sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfeffi
from tfeffi import compress, data, train
from tfeffi.data.batches import Augment, every_view
from tfeffi.errors import BadInput

RANDOM = np.random.default_rng(0)
IMAGES = data.Images.from_arrays(
    RANDOM.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8), RANDOM.integers(0, 4, 30), "abcd"
)
SEEN = (
    Augment(),
    Augment(crop=1),
    Augment(flip=True),
    Augment(translate=2, flip="alternate"),
    Augment(crop=2, flip="alternate"),
)


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4, name="logits")]
    return keras.Sequential(layers)


@pytest.mark.parametrize("augment", SEEN, ids=str)
def test_the_target_is_what_the_teacher_says_to_the_crop_that_is_seen(teacher, augment):
    taught = compress.taught(IMAGES, teacher, augment, temperature=2.0)
    assert taught.targets.shape == (30, augment.views, 4) and taught.targets.dtype == np.float16
    for epoch in range(3):
        batches = data.pipeline(taught, 10, training=True, augment=augment, seed=5, epoch=epoch)
        plain = data.pipeline(IMAGES, 10, training=True, augment=augment, seed=5, epoch=epoch)
        for (pixels, targets), (same, _) in zip(batches, plain, strict=True):
            np.testing.assert_array_equal(pixels, same)
            np.testing.assert_allclose(targets, tf.nn.softmax(teacher(pixels) / 2.0), atol=1e-3)


def test_there_are_so_many_different_views():
    for augment in SEEN:
        views = [view.tobytes() for view in every_view(IMAGES.images, augment)]
        assert len(set(views)) == len(views) == augment.views


def test_evaluation_knows_the_labels_only(teacher):
    taught = compress.taught(IMAGES, teacher)
    np.testing.assert_array_equal(next(iter(data.pipeline(taught, 30)))[1], IMAGES.labels)
    part = taught[5:9]
    np.testing.assert_array_equal(part.targets, taught.targets[5:9])


def fit(images, model, epochs=2, **more):
    settings = train.Settings(
        epochs=epochs, batch_size=10, learning_rate=0.05, optimizer={"name": "sgd"}, **more
    )
    return train.fit(model, images, settings=settings, verbose=False)


def test_a_teacher_without_a_share_is_the_labels(teacher):
    images = compress.taught(IMAGES, teacher, Augment(crop=1), alpha=0.0)
    student = keras.models.clone_model(teacher)
    made, plain = (fit(i, student, augment={"crop": 1}) for i in (images, IMAGES))
    assert made.history[-1]["accuracy"] == plain.history[-1]["accuracy"]
    for one, other in zip(made.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_student_comes_to_answer_as_its_teacher(teacher):
    images = compress.taught(IMAGES, teacher, {"crop": 1})
    student = keras.models.clone_model(teacher)
    trained = fit(images, student, epochs=40, augment={"crop": 1}).history
    assert trained[-1]["loss"] < trained[0]["loss"]
    perfect = fit(images, teacher, augment={"crop": 1}).history  # nothing left but the entropy
    assert perfect[-1]["loss"] < trained[-1]["loss"] and perfect[-1]["accuracy"] > 0.95


@pytest.mark.parametrize("softmax", (False, True))
def test_files_teach_as_the_models_they_came_from(tmp_path, teacher, softmax):
    model = keras.Sequential([*teacher.layers, keras.layers.Softmax()]) if softmax else teacher
    model.build((None, 8, 8, 3))
    model.save(tmp_path / "teacher.keras")
    tfeffi.export(model, tmp_path / "teacher.tflite")
    wanted = compress.taught(IMAGES, model).targets
    for name in ("teacher.keras", "teacher.tflite"):
        found = compress.taught(IMAGES, tmp_path / name).targets
        np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_bad_input(teacher):
    with pytest.raises(BadInput, match="temperature=0 must be above 0"):
        compress.taught(IMAGES, teacher, temperature=0)
    with pytest.raises(BadInput, match=r"alpha=2\.0 from 0 to 1"):
        compress.taught(IMAGES, teacher, alpha=2.0)
    more = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(7)])
    with pytest.raises(BadInput, match=r"the teacher answers with \(7,\) scores.*4 classes"):
        compress.taught(IMAGES, more)
    taught = compress.taught(IMAGES, teacher, {"crop": 1})
    with pytest.raises(BadInput, match="targets for 9 views, the augmentation makes 25"):
        fit(taught, teacher, augment={"crop": 2})
    with pytest.raises(BadInput, match=r"label_smoothing=0\.1 .* targets"):
        fit(taught, teacher, augment={"crop": 1}, label_smoothing=0.1)
    with pytest.raises(data.DataError, match="targets must be float16 of shape"):
        IMAGES.with_targets(np.zeros((30, 4), np.float16))
