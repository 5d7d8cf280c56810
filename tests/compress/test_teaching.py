"""Targets of a teacher, view by view: the very crops that the student sees."""

import pathlib
import subprocess
import sys

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
            wanted = tf.nn.softmax(teacher(pixels) / 2.0)
            if augment.flip:  # a view and its mirror image mean the same
                wanted = (wanted + tf.nn.softmax(teacher(pixels[:, :, ::-1]) / 2.0)) / 2
            np.testing.assert_allclose(targets, wanted, atol=1e-3)


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


def test_small_shares_of_many_classes_are_shares(tmp_path):
    """An int8 softmax of 200 classes rounds most of them to 0; its rows sum to less than one."""
    keras.utils.set_random_seed(2)
    pixels = RANDOM.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    many = data.Images.from_arrays(pixels, RANDOM.integers(0, 200, 40), map(str, range(200)))
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(200, kernel_initializer="glorot_normal")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Softmax()(3 * x))
    path = tmp_path / "teacher.tflite"
    tfeffi.export(
        model, path, quantize="int8", calibration=pixels / 255.0, min_agreement=0, views="flip"
    )
    found = compress.taught(many, path).targets[:, 0]
    mirrored = (model(pixels / 255.0) + model(pixels[:, :, ::-1] / 255.0)) / 2
    assert np.max(found, 1) == pytest.approx(np.max(mirrored, 1), rel=0.2)


def test_two_replicas_learn_what_one_learns(teacher):
    """Targets are divided over replicas as labels are."""
    done = subprocess.run(
        [sys.executable, pathlib.Path(__file__).with_name("teaching_replicas.py")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = map(float, done.stdout.split())
    assert one == pytest.approx(two, rel=1e-4)


def test_several_teachers_are_averaged(teacher):
    other = keras.models.clone_model(teacher)
    found = [compress.taught(IMAGES, one).targets for one in (teacher, other, [teacher, other])]
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=1e-3)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_bad_numbers(teacher):
    for arguments, message in (
        ({"temperature": 0}, "taught: temperature=0; give a number above 0"),
        ({"temperature": "2"}, "temperature='2'; give a number"),
        ({"alpha": 2.0}, r"taught: alpha=2\.0; give the teacher's share"),
    ):
        with pytest.raises(BadInput, match=message):
            compress.taught(IMAGES, teacher, **arguments)


def no_teachers(folder):
    def model(shape, classes, outputs=1):
        image = keras.Input(shape)
        made = [keras.layers.Dense(classes)(keras.layers.Flatten()(image)) for _ in range(outputs)]
        return keras.Model(image, made if outputs > 1 else made[0])

    lost = model((8, 8, 3), 4)
    lost.layers[-1].kernel.assign(np.full((192, 4), np.nan))
    tfeffi.export(model((8, 8, 3), 7), folder / "seven.tflite")
    yield lost, "answers are not finite"
    yield model((8, 8, 3), 7), r"outputs of shape \(7,\), the data has 4 classes"
    yield model((9, 9, 3), 4), r"takes images of shape \(9, 9, 3\)"
    yield model((8, 8, 3), 4, outputs=2), "1 inputs and 2 outputs"
    yield folder / "seven.tflite", r"gives \[\(8, 8, 3\), \(7,\)\], the images need"
    yield folder / "none.tflite", "there is no model file"
    yield None, "teacher=None; give a Keras model"
    yield [], "no teacher; give one at least"


def test_who_cannot_teach(tmp_path):
    for teacher, message in no_teachers(tmp_path):
        with pytest.raises(BadInput, match=message):
            compress.taught(IMAGES, teacher)


def test_targets_of_other_views_are_refused(teacher):
    taught = compress.taught(IMAGES, teacher, {"crop": 1})
    with pytest.raises(BadInput, match=r"targets for 9 views .* makes 25"):
        fit(taught, teacher, augment={"crop": 2})
    with pytest.raises(
        BadInput, match=r"of .'crop', 1, False., the augmentation makes 9 of .'trans"
    ):
        fit(taught, teacher, augment={"translate": 1})
    with pytest.raises(BadInput, match=r"label_smoothing=0\.1 .* targets"):
        fit(taught, teacher, augment={"crop": 1}, label_smoothing=0.1)
    with pytest.raises(data.DataError, match="targets must be float16 of shape"):
        IMAGES.with_targets(np.zeros((30, 4), np.float16))


def test_targets_that_do_not_fit_into_memory(teacher, monkeypatch):
    monkeypatch.setattr("tfeffi.compress.teaching.free_memory", lambda: 100)
    with pytest.raises(BadInput, match="targets of 30 images, 1 views and 4 classes need"):
        compress.taught(IMAGES, teacher)


def test_a_run_of_other_targets_is_another_run(teacher, tmp_path):
    settings = train.Settings(epochs=1, batch_size=10)
    for temperature in (1.0, 4.0):
        taught = compress.taught(IMAGES, teacher, temperature=temperature)
        if temperature == 1.0:
            train.fit(teacher, taught, settings=settings, workdir=tmp_path / "run", verbose=False)
    with pytest.raises(BadInput, match="holds another run: its data"):
        train.fit(teacher, taught, settings=settings, workdir=tmp_path / "run", verbose=False)
