"""The loop against stock Keras, and what it promises: resume, stopping, replicas, hooks."""

import dataclasses
import io
import json
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfeffi
from tests.train.cases import convnet, images
from tfeffi.data import Augment, pipeline
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train import Diverged, Settings, evaluate, fit, loop, optimizers

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
    l1 = 1e-4 if optimizer["name"] == "sgd" else 0.0  # Adam magnifies the jump of its gradient at 0
    settings = Settings(
        epochs=2, batch_size=32, learning_rate=0.02, optimizer=optimizer,
        schedule={"name": "constant"}, label_smoothing=0.1, l1=l1, l2=1e-3, seed=5,
        augment={"crop": 1, "flip": True},
    )  # fmt: skip
    trained = fit(start, data, settings=settings, **QUIET).model

    stock = keras.models.clone_model(start)
    stock.set_weights(start.get_weights())
    for layer in ("conv", "logits"):
        stock.get_layer(layer).kernel.regularizer = keras.regularizers.L1L2(l1, 1e-3)
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


def test_what_methods_do_between_epochs_is_not_training_but_counts():
    seen = []

    class Surgery(Method):
        def on_epoch_end(self, run):
            seen.append((run.compile_seconds, run.seconds))
            time.sleep(1.0)

    fit(
        convnet(),
        images(),
        settings=Settings(epochs=2, batch_size=32),
        methods=[Surgery()],
        **QUIET,
    )
    compiling, training = (after - before for before, after in zip(*seen, strict=True))
    assert compiling >= 1.0 > training > 0


def test_a_pause_comes_after_its_step_and_is_not_training():
    class Pausing(Method):
        def __init__(self, at):
            self.at, self.seen, self.seconds = at, [], []

        def pauses(self, run):
            return self.at

        def on_pause(self, run):
            self.seen.append((run.epoch, run.epoch_step, run.step, int(run.totals.steps)))
            self.seconds.append((run.compile_seconds, run.seconds))
            time.sleep(0.5)

    first, second, none = Pausing([0, 2, 4]), Pausing([4, 9]), Pausing([])  # six steps an epoch
    settings = Settings(epochs=2, batch_size=16)
    start = convnet()
    made, plain = (
        fit(start, images(), settings=settings, methods=chosen, **QUIET)
        for chosen in ([first, none, second], [])
    )
    assert first.seen == [
        (0, 0, 0, 0), (0, 2, 2, 2), (0, 4, 4, 4), (1, 0, 6, 6), (1, 2, 8, 8), (1, 4, 10, 10),
    ]  # fmt: skip
    assert second.seen == first.seen[2::3] and not none.seen
    assert_same(made.model, plain.model)
    assert [row["train_macs"] for row in made.history] == [
        row["train_macs"] for row in plain.history
    ]
    compiling, training = np.subtract(first.seconds[1], first.seconds[0])
    assert compiling >= 0.5 > training > 0


@pytest.mark.parametrize("chosen", [[{"name": "net2net"}], "net2net", Method(), Method])
def test_what_is_no_list_of_methods_is_one_line(chosen):
    with pytest.raises(
        BadInput, match=r'methods must be a list, of what tfeffi.methods.build\("NAME'
    ):
        fit(
            convnet(), images(), settings=Settings(epochs=1, batch_size=32), methods=chosen, **QUIET
        )


def test_settings_that_a_method_changes_act_at_once():
    class NoDecay(Method):
        def on_epoch_end(self, run):
            run.settings = dataclasses.replace(run.settings, l2=0.0)

    sgd = {"name": "sgd"}
    slow = Settings(epochs=1, batch_size=32, learning_rate=1e-3, l2=50.0, optimizer=sgd)
    seen = []
    for epochs in (1, 2):
        settings = dataclasses.replace(slow, epochs=epochs, schedule={"name": "constant"})
        made = fit(convnet(), images(), settings=settings, methods=[NoDecay()], **QUIET)
        seen.append(float(np.linalg.norm(made.model.get_layer("conv").kernel)))
    assert seen[1] > 0.9 * seen[0]


def test_a_finished_run_is_read_back_and_another_one_refused(tmp_path):
    settings, start = Settings(epochs=1, batch_size=32), convnet()
    first = fit(start, images(), settings=settings, workdir=tmp_path, **QUIET)
    stamp = (tmp_path / "model.keras").stat().st_mtime_ns
    again = fit(start, images(), settings=settings, workdir=tmp_path, **QUIET)
    assert_same(first.model, again.model)
    assert (tmp_path / "model.keras").stat().st_mtime_ns == stamp

    twin = keras.models.clone_model(start)  # the same, but for the names that Keras gives
    twin.set_weights(start.get_weights())
    assert_same(
        first.model, fit(twin, images(), settings=settings, workdir=tmp_path, **QUIET).model
    )

    config = start.get_config()
    config["layers"][1]["config"]["activation"] = "tanh"
    bent = keras.Model.from_config(config)
    bent.set_weights(start.get_weights())
    other = images()
    other.images[0] = 255 - other.images[0]
    for change, words in (
        ({"settings": Settings(epochs=2, batch_size=32)}, "its epochs is 1, this one's is 2"),
        ({"train": images(64)}, "its data"),
        ({"train": other}, "its data"),
        ({"model": bent}, "its model"),
        ({"model": convnet()}, "its starting weights"),
        ({"methods": [Recorder()]}, "its methods"),
    ):
        with pytest.raises(BadInput, match=words):
            fit(**{"model": start, "train": images(), "settings": settings, "workdir": tmp_path,
                   **QUIET, **change})  # fmt: skip


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
    assert len(losses) == trained.best_epoch + 2 < 30
    assert evaluate(trained.model, validation)["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_early_stopping_counts_from_look_to_look():
    settings = Settings(epochs=12, batch_size=32, learning_rate=1e-9, early_stopping=1,
                        evaluate_every=3, monitor="validation_loss")  # fmt: skip
    trained = fit(convnet(norm=False), images(), images(48, seed=1), settings, **QUIET)
    looks = [row["epoch"] for row in trained.history if "validation_loss" in row]
    assert looks[-1] == len(trained.history) and len(looks) >= 2


class Breaker(Method):
    """Makes the gradients NaN: the loss before them is finite."""

    def on_gradients(self, run, gradients):
        return [g * np.nan for g in gradients]


def test_weights_that_are_not_finite_after_the_last_step_are_no_result(tmp_path):
    settings = Settings(epochs=1, batch_size=96)
    for validation, words in ((images(48), "validation loss"), (None, "weights are not finite")):
        with pytest.raises(Diverged, match=words):
            fit(convnet(), images(), validation, settings, methods=[Breaker()], workdir=tmp_path,
                **QUIET)  # fmt: skip
        assert not list(tmp_path.glob("*.keras")) and not list(tmp_path.glob("*.json"))


def test_float16_steps_that_overflow_are_skipped_and_counted():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(300.0)(inputs)  # the first gradients overflow at a scale of 2¹⁵
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(4, dtype="float32")(keras.layers.Dense(8)(x)))
    settings = Settings(epochs=4, batch_size=32, learning_rate=1e-7, precision="mixed_float16")
    row = fit(model, images(), settings=settings, **QUIET).history[-1]
    assert 1 <= row["skipped_steps"] < 12
    assert row["loss_scale"] == 2.0 ** (15 - row["skipped_steps"])


def test_a_static_scale_that_skips_every_step_is_no_training():
    settings = Settings(epochs=1, batch_size=32, precision="mixed_float16", loss_scale=2.0**24)
    with pytest.raises(Diverged, match="3 float16 steps in a row overflowed"):
        fit(convnet(norm=False), images(), settings=settings, **QUIET)


def test_a_static_and_the_dynamic_scale_train_alike():
    start = convnet(norm=False)
    runs = [
        fit(start, images(), settings=Settings(
            epochs=2, batch_size=32, precision="mixed_float16", loss_scale=scale), **QUIET).model
        for scale in ("dynamic", 1024.0)
    ]  # fmt: skip
    assert_same(*runs, rtol=1e-2, atol=2e-3)


def test_a_softmax_anywhere_at_the_end_is_not_taken_for_logits():
    data, loss = images(), {}
    inputs = keras.Input((8, 8, 1))
    logits = keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(inputs))
    plain = keras.Model(inputs, logits)
    head = keras.Sequential([keras.Input((4,)), keras.layers.Softmax()], name="head")
    ends = {
        "logits": logits,
        "layer": keras.layers.Softmax()(logits),
        "activation": keras.layers.Activation("softmax")(logits),
        "nested": head(logits),
        "reshaped": keras.layers.Reshape((4,))(keras.layers.Softmax()(logits)),
    }
    for name, end in ends.items():
        loss[name] = evaluate(keras.Model(inputs, end), data)["loss"]
        trained = fit(keras.Model(inputs, end), data,
                      settings=Settings(epochs=1, batch_size=32, l2=0.0), **QUIET)  # fmt: skip
        loss[f"{name} trained"] = trained.history[0]["loss"]
    for name in list(ends)[1:]:
        assert loss[name] == pytest.approx(loss["logits"], rel=1e-5)
        assert loss[f"{name} trained"] == pytest.approx(loss["logits trained"], rel=1e-4)
    assert plain.get_layer("logits").units == 4


def test_any_image_size_may_be_left_open():
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    trained = fit(model, images(), settings=Settings(epochs=1, batch_size=32), **QUIET)
    assert trained.train_macs == 3 * 96 * (8 * 8 * 9 * 4 + 16)


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True


def test_progress_shows_speed_and_time_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    fit(convnet(), images(), images(48, seed=1), Settings(epochs=2, batch_size=32))
    shown = screen.getvalue()
    assert "epoch 2/2" in shown and "images/s" in shown and "0:00:0" in shown
    assert "validation accuracy" in shown and "left" in shown


def test_tensorboard_has_the_history(tmp_path):
    settings = Settings(epochs=2, batch_size=32)
    trained = fit(convnet(), images(), settings=settings, workdir=tmp_path, **QUIET)
    found = {}
    for path in tmp_path.glob("tensorboard/events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    for row in trained.history:
        for key in ("loss", "accuracy", "learning_rate"):
            assert found[row["epoch"], key] == pytest.approx(row[key], rel=1e-6)


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
    before, *after = np.diff([0, *(row["train_macs"] for row in trained.history)])
    assert after == [before // 2] * 2
    assert trained.model.get_layer("conv").filters == (3 if trained.best_epoch > 1 else 6)


def test_a_method_may_change_the_model_within_an_epoch():
    class Pausing(Narrower):
        def pauses(self, run):
            return [2]

        def on_pause(self, run):
            super().on_epoch_end(run)  # after two steps of the second epoch

        def on_epoch_end(self, run):
            pass

    settings = Settings(epochs=3, batch_size=16)
    made = fit(convnet(), images(), images(48, seed=1), settings, methods=[Pausing()], **QUIET)
    first, second, third = np.diff([0, *(row["train_macs"] for row in made.history)])
    assert third == first // 2 and second == (2 * first + 4 * third) // 6
    assert made.model.get_layer("conv").filters == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 1000}, "larger than the 96 training images"),
        ({"early_stopping": 2}, "needs validation"),
        ({"optimizer": {"name": "sdg"}}, '"sgd"'),
        *(
            ({"optimizer": {"name": "sgd", key: 2}}, f"{key} is not done by this loop")
            for key in optimizers.UNSUPPORTED
        ),
        ({"early_stopping": "3"}, "early_stopping='3' must be 1 epoch or more"),
        ({"optimizer": "sgd"}, "optimizer='sgd'"),
        ({"schedule": "cosine"}, "schedule='cosine'"),
        ({"schedule": {"name": "cosine", "final": "a"}}, "schedule cosine"),
        ({"schedule": {"name": "step", "milestones": 5}}, "schedule step"),
        ({"schedule": {"name": "cosine", "warmup_epochs": "1"}}, "warmup_epochs=1"),
        ({"seed": "x"}, "seed='x'"),
        ({"l2": "x"}, "l2='x'"),
        ({"loss": "reconstruction", "early_stopping": 2}, "validation_loss"),
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
        ({"loss_scale": 2**26}, "loss_scale=67108864"),
        ({"augment": {"flipp": True}}, '"flip"'),
        ({"epoch": 3}, '"epochs"'),
    ],
)
def test_bad_settings_name_the_value_and_the_way_out(change, words):
    with pytest.raises(BadInput, match=words):
        Settings.from_mapping(change)


def test_a_workdir_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        fit(convnet(), images(), workdir=tmp_path / "file" / "run", **QUIET)


def test_models_and_data_must_fit():
    with pytest.raises(BadInput, match="takes images of shape"):
        fit(convnet(size=10), images(), settings=Settings(batch_size=32), **QUIET)
    with pytest.raises(BadInput, match="num_classes=4"):
        fit(convnet(classes=3), images(), settings=Settings(batch_size=32), **QUIET)
    with pytest.raises(BadInput, match="built functional"):
        fit(keras.Sequential([keras.layers.Dense(3)]), images(), **QUIET)

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(BadInput, match="built functional"):
        fit(Own(), images(), **QUIET)
