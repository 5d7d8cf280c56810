"""kill -9 at any step, start again: the same weights, bit for bit, as without the kill."""

import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.train.cases import convnet, images
from tests.train.killed import train
from tfeffi.errors import BadInput
from tfeffi.train import Settings, fit


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def assert_same_run(first, second):
    for x, y in zip(first.model.variables, second.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))
    for x, y in zip(first.history, second.history, strict=True):
        for key in set(x) - {"seconds", "images_per_second"}:
            assert x[key] == y[key], key
    assert (first.best_epoch, first.train_macs) == (second.best_epoch, second.train_macs)


def test_kill_9_changes_nothing(tmp_path, undisturbed):
    command = [sys.executable, "-m", "tests.train.killed", str(tmp_path), "9"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoint.npz").exists() and not (tmp_path / "model.keras").exists()
    assert_same_run(train(tmp_path), undisturbed)
    assert not (tmp_path / "checkpoint.npz").exists()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for x, y in zip(loaded.weights, undisturbed.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(x), np.array(y))


def test_nor_does_being_stopped_again_and_again(tmp_path, undisturbed):
    def stop_at(last):
        def befall(step):
            if step == last:
                raise KeyboardInterrupt

        return befall

    # 6 steps an epoch, and what is kept is one step less: none, an epoch's last but one, its last, one
    # at a pause, into the third, before, at and after the pause that narrows the model, the last but one
    for steps in (1, 6, 2, 3, 10, 4, 2, 2, 2):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, stop_at(steps))
    finished = train(tmp_path)
    assert_same_run(finished, undisturbed)
    last = finished.history[-1]
    assert (last["counted"], last["paused"], last["steps"]) == (4, 12, 24)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"PK not a zip", b"\x93NUMPY"])
def test_an_unreadable_checkpoint_says_so(tmp_path, content):
    (tmp_path / "checkpoint.npz").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read"):
        fit(convnet(), images(), settings=Settings(epochs=1, batch_size=32), workdir=tmp_path,
            verbose=False)  # fmt: skip


def test_a_checkpoint_of_another_version_says_so(tmp_path):
    def stop(step):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop)
    path = tmp_path / "checkpoint.npz"
    with np.load(path) as archive:
        whole = dict(archive)
    reshaped = {**whole, "variable_3": np.zeros(99, np.float32)}
    for kept in ({key: whole[key] for key in whole if key != "variable_3"}, reshaped):
        np.savez(path, **kept)
        with pytest.raises(BadInput, match=r"checkpoint .* does not fit this run .*remove it"):
            train(tmp_path)
    np.savez(path, **whole | {"header": np.array("{}")})
    with pytest.raises(BadInput, match=r"cannot be read .*identity.*remove it"):
        train(tmp_path)


def test_names_that_keras_gives_are_no_other_run(tmp_path):
    def build():
        inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Activation("relu")])
        x = inner(inputs := keras.Input((8, 8, 1)))
        x = keras.layers.Activation("relu")(keras.layers.Flatten()(x))
        outputs = keras.layers.Dense(4, kernel_initializer="zeros")(x)
        return keras.Model(inputs, outputs)

    settings = Settings(epochs=1, batch_size=32, learning_rate=np.float32(0.125))
    first, second = (
        fit(build(), images(), settings=settings, workdir=tmp_path, verbose=False) for _ in range(2)
    )
    assert_same_run(first, second)
    with pytest.raises(BadInput, match="holds another run: its model is"):
        other = keras.models.clone_model(build(), clone_function=sigmoid)
        fit(other, images(), settings=settings, workdir=tmp_path, verbose=False)


def sigmoid(layer):
    """The layer, but for activations, which become sigmoids of the same name."""
    if isinstance(layer, keras.layers.Activation):
        return keras.layers.Activation("sigmoid", name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    for name in (".model.x.keras", ".trained.x.json", ".history.x.json", ".checkpoint.x.npz"):
        (tmp_path / name).write_bytes(b"half")
    fit(convnet(), images(), settings=Settings(epochs=1, batch_size=32), workdir=tmp_path,
        verbose=False)  # fmt: skip
    assert not list(tmp_path.glob(".*"))
