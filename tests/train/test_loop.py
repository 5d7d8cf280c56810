"""The loop against stock Keras, and what it promises: resume, stopping, replicas, hooks."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfeffi
from tests.train.cases import convnet, images
from tfeffi.data import Augment, pipeline
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train import Diverged, Settings, evaluate, fit

QUIET = {"verbose": False}


def weights(model):
    return [np.array(v) for v in model.variables]


def assert_same(a, b, **close):
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, **close) if close else np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
        {"name": "adam"},
        {"name": "adamw", "weight_decay": 1e-2},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_takes_the_same_steps_as_stock_keras(optimizer):
    data, start = images(), convnet()
    settings = Settings(
        epochs=2, batch_size=32, learning_rate=0.02, optimizer=optimizer,
        schedule={"name": "constant"}, label_smoothing=0.1, l2=1e-3, seed=5,
        augment={"crop": 1, "flip": True},
    )  # fmt: skip
    trained = fit(start, data, settings=settings, **QUIET).model

    stock = keras.models.clone_model(start)
    stock.set_weights(start.get_weights())
    stock.get_layer("conv").kernel_regularizer = keras.regularizers.L2(1e-3)
    stock.get_layer("logits").kernel_regularizer = keras.regularizers.L2(1e-3)
    for layer in ("conv", "logits"):
        stock.get_layer(layer).kernel.regularizer = keras.regularizers.L2(1e-3)
    rest = {k: v for k, v in optimizer.items() if k != "name"}
    classes = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam,
               "adamw": keras.optimizers.AdamW}  # fmt: skip
    made = classes[optimizer["name"]](0.02, **rest)
    if made.weight_decay:
        made.exclude_from_weight_decay(
            var_list=[v for v in stock.trainable_variables if len(v.shape) < 2]
        )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    stock.compile(made, loss, jit_compile=False)
    for epoch in range(2):
        batches = pipeline(
            data, 32, training=True, seed=5, epoch=epoch, augment=Augment(crop=1, flip=True)
        )
        for x, y in batches:
            stock.train_on_batch(x, tf.one_hot(y, 4))
    assert_same(trained, stock, rtol=1e-3, atol=2e-5)


def test_learns_and_reports(tmp_path):
    data = images(192)
    start = convnet()
    before = weights(start)
    trained = fit(start, data, images(48, seed=1), Settings(epochs=6, batch_size=32),
                  workdir=tmp_path, **QUIET)  # fmt: skip
    assert evaluate(trained.model, images(48, seed=1))["accuracy"] > 0.9
    for old, new in zip(before, weights(start), strict=True):
        np.testing.assert_array_equal(old, new)  # the caller's model is untouched
    row = trained.history[-1]
    assert row["epoch"] == 6 and row["images_per_second"] > 0 and row["learning_rate"] < 0.05
    assert trained.train_macs == 3 * 6 * 192 * (8 * 8 * 9 * 6 + 8 * 8 * 6 * 4)
    assert trained.train_seconds > 0 and trained.compile_seconds > 0
    assert trained.peak_memory_mb > 100
    assert json.loads((tmp_path / "history.json").read_text())["rows"] == trained.history
    assert not (tmp_path / "checkpoint.npz").exists()
    assert list(tmp_path.glob("tensorboard/events.*"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("norm")) is keras.layers.BatchNormalization
    assert_same(loaded, trained.model)


def test_a_finished_run_is_read_back_and_another_one_refused(tmp_path):
    settings = Settings(epochs=1, batch_size=32)
    first = fit(convnet(), images(), settings=settings, workdir=tmp_path, **QUIET)
    stamp = (tmp_path / "model.keras").stat().st_mtime_ns
    again = fit(convnet(), images(), settings=settings, workdir=tmp_path, **QUIET)
    assert_same(first.model, again.model)
    assert (tmp_path / "model.keras").stat().st_mtime_ns == stamp
    with pytest.raises(BadInput, match="its epochs is 1, this one's is 2"):
        fit(convnet(), images(), settings=Settings(epochs=2, batch_size=32), workdir=tmp_path,
            **QUIET)  # fmt: skip
    with pytest.raises(BadInput, match="its data"):
        fit(convnet(), images(64), settings=settings, workdir=tmp_path, **QUIET)


def test_runs_repeat_bit_for_bit_and_the_seed_matters():
    def run(seed):
        keras.utils.set_random_seed(1)
        settings = Settings(epochs=1, batch_size=32, seed=seed, augment={"crop": 2})
        return fit(convnet(dropout=0.3), images(), settings=settings, **QUIET).model

    first, second, third = run(0), run(0), run(1)
    assert_same(first, second)
    assert any((a != b).any() for a, b in zip(weights(first), weights(third), strict=True))


def test_early_stopping_gives_back_the_best_weights():
    data, validation = images(), images(48, seed=1)
    settings = Settings(
        epochs=30, batch_size=32, learning_rate=0.05, early_stopping=2, monitor="validation_loss",
        schedule={"name": "triangular", "peak_at": 1.0, "start": 0.1, "cycles": 1},
    )  # fmt: skip
    trained = fit(convnet(), data, validation, settings, **QUIET)
    losses = [row["validation_loss"] for row in trained.history]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == 30 or len(losses) == trained.best_epoch + 2
    assert evaluate(trained.model, validation)["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_with_step_and_learning_rate():
    settings = Settings(epochs=3, batch_size=32, learning_rate=1e38, schedule={"name": "constant"})
    with pytest.raises(Diverged, match=r"step \d+ \(epoch 1\), learning rate 1e\+38"):
        fit(convnet(norm=False), images(), settings=settings, **QUIET)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_logs_its_scale(precision):
    settings = Settings(epochs=6, batch_size=32, precision=precision)
    trained = fit(convnet(), images(192), images(48, seed=1), settings, **QUIET)
    assert evaluate(trained.model, images(48, seed=1))["accuracy"] > 0.9
    assert trained.model.dtype_policy.name == "float32"
    assert ("skipped_steps" in trained.history[-1]) == (precision == "mixed_float16")


def test_reconstruction_trains_an_autoencoder():
    data = images()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same")(x))
    settings = Settings(epochs=8, batch_size=32, loss="reconstruction", learning_rate=0.1)
    before = evaluate(model, data, "reconstruction")["loss"]
    trained = fit(model, data, data, settings, **QUIET)
    assert "accuracy" not in trained.history[-1]
    assert trained.history[-1]["validation_loss"] < before / 4


class Recorder(Method):
    """Uses every hook: a loss term, halved gradients, a log line, a counter that must survive."""

    epochs = 0

    def on_model(self, run):
        self.seen_model = run.model

    def extra_loss(self, run):
        return 0.5 * sum(tf.reduce_sum(v.value) for v in run.model.trainable_variables)

    def on_gradients(self, run, gradients):
        return [g * 0.0 + 1.0 for g in gradients]

    def on_epoch_end(self, run):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}

    def restore(self, state):
        self.epochs = state["epochs"]


def test_methods_act_on_the_gradients_that_are_applied():
    method, start = Recorder(), convnet(norm=False)
    settings = Settings(
        epochs=2, batch_size=32, learning_rate=0.25, optimizer={"name": "sgd"},
        schedule={"name": "constant"},
    )  # fmt: skip
    trained = fit(start, images(), settings=settings, methods=[method], **QUIET)
    for old, new in zip(weights(start), weights(trained.model), strict=True):
        np.testing.assert_allclose(new, old - 0.25 * 6, rtol=1e-5, atol=1e-5)
    assert method.epochs == 2


class Narrower(Method):
    """Gives the run a new model after the first epoch, as a pruning method would."""

    def on_epoch_end(self, run):
        if run.epoch == 1:
            run.adopt(*tfeffi.reindex(run.model, {"conv": [0, 2, 4]}))


def test_a_method_may_change_the_model_between_epochs(tmp_path):
    settings = Settings(epochs=3, batch_size=32, early_stopping=9)
    trained = fit(convnet(), images(), images(48, seed=1), settings, methods=[Narrower()],
                  workdir=tmp_path, **QUIET)  # fmt: skip
    assert trained.history[-1]["train_macs"] < 3 * trained.history[0]["train_macs"]
    assert trained.model.get_layer("conv").filters in (3, 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 1000}, "larger than the 96 training images"),
        ({"early_stopping": 2}, "needs validation"),
        ({"optimizer": {"name": "sdg"}}, '"sgd"'),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, "momentun"),
        ({"schedule": {"name": "cosine", "warmup_epochs": 99}}, "warmup_epochs=99"),
    ],
)
def test_settings_that_do_not_fit_say_so(change, words):
    with pytest.raises(BadInput, match=words):
        fit(convnet(), images(), settings=Settings(**{"batch_size": 32, **change}), **QUIET)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"precision": "mixed_float8"}, '"mixed_float16"'),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"loss_scale": "static"}, "loss_scale='static'"),
        ({"augment": {"flipp": True}}, '"flip"'),
        ({"epoch": 3}, '"epochs"'),
    ],
)
def test_bad_settings_name_the_value_and_the_way_out(change, words):
    with pytest.raises(BadInput, match=words):
        Settings.from_mapping(change)


def test_models_and_data_must_fit():
    with pytest.raises(BadInput, match="takes images of shape"):
        fit(convnet(size=10), images(), settings=Settings(batch_size=32), **QUIET)
    with pytest.raises(BadInput, match="num_classes=4"):
        fit(convnet(classes=3), images(), settings=Settings(batch_size=32), **QUIET)
    with pytest.raises(BadInput, match="built functional"):
        fit(keras.Sequential([keras.layers.Dense(3)]), images(), **QUIET)
