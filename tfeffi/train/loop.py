"""The training loop, from top to bottom.

Time is counted in three drawers: `compile_seconds` (building, tracing, the first step, what methods do
between steps, as surgery), `seconds` (steps and their input pipeline), and what is in neither
(validation, checkpoints).
"""

import dataclasses
import itertools
import json
import math
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfeffi import files, models
from tfeffi.analysis.cost import cost
from tfeffi.analysis.memory import peak_memory_mb
from tfeffi.data import Images, pipeline
from tfeffi.errors import BadInput
from tfeffi.methods import Method, check_together
from tfeffi.train import checkpoint, losses, precision, step
from tfeffi.train.evaluation import Evaluator
from tfeffi.train.progress import Reporter
from tfeffi.train.schedules import Pace
from tfeffi.train.settings import MONITORS, Settings, make_augment
from tfeffi.train.state import Best, Run, Totals, check_batch_size

STUCK_AT = 20  # float16 steps skipped in a row with a scale that cannot fall: or a whole epoch
LOOK_SECONDS = 0.5  # between two looks at the sums that live where the steps run


class Diverged(BadInput):
    """The loss stopped being a finite number."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What `fit` returns.

    `model` computes in float32 with plain Keras layers. `history` has a row an epoch. Seconds count
    training steps; compiling is apart. `train_macs` is 3 × forward MACs × images seen.
    """

    model: keras.Model
    history: list[dict[str, float]]
    train_seconds: float
    compile_seconds: float
    train_macs: int
    best_epoch: int
    peak_memory_mb: float


def fit(
    model: keras.Model,
    train: Images,
    validation: Images | None = None,
    settings: Settings | None = None,
    *,
    methods: Sequence[Method] = (),
    workdir: str | pathlib.Path | None = None,
    strategy: tf.distribute.Strategy | None = None,
    verbose: bool = True,
) -> Trained:
    """Trains a model on images.

    Args:
        model: a built functional or sequential model, float32 images (n, h, w, c) in [0, 1] to
            logits (n, classes), probabilities, or images. It is not changed.
        train, validation: the images; batches that do not fill up are dropped from `train` only.
        settings: how; the defaults of `Settings` if None.
        methods: what acts on the run, in this order.
        workdir: where checkpoint, TensorBoard, `history.json` and `model.keras` go. A run that was
            killed resumes there, a finished one is read back, another run's folder is refused.
        strategy: a `tf.distribute` strategy; the default one if None.
        verbose: whether progress is shown on standard error.

    Returns:
        The trained model and the record of its training.

    Raises:
        BadInput: settings, data and model that do not fit together.
        Diverged: a loss that is not finite; names the step and the learning rate.

    Example:
        images = tfeffi.data.load("fashion_mini", "train")
        model = tfeffi.models.build("mnist_classifier", input_shape=(28, 28, 1), num_classes=10)
        trained = fit(model, images, settings=Settings(epochs=2, batch_size=64))
    """
    settings = settings or Settings()
    strategy = strategy or tf.distribute.get_strategy()
    folder = _made(workdir) if workdir else None
    _check(model, train, validation, settings, strategy)
    check_together(methods)

    started = time.perf_counter()
    data = [images for images in (train, validation) if images is not None]
    identity = checkpoint.fingerprint(model, data, settings, methods) if folder else {}
    if folder and (finished := _read_finished(folder, identity)):
        return finished
    run = begin(model, train, validation, settings, tuple(methods), strategy)
    resumed = bool(folder) and checkpoint.restore(run, folder, identity)
    run.compile_seconds += time.perf_counter() - started
    train_step, evaluate = _compile(run)

    keep = checkpoint.Keeper(folder, identity, settings.checkpoint_seconds)
    with Reporter(run, folder, verbose) as reporter:
        if resumed:
            reporter.say(f"resuming at epoch {run.epoch + 1}, step {run.step}")
        while run.epoch < settings.epochs and not _should_stop(run):
            while run.epoch_step < run.steps_per_epoch:
                _pause(run)
                if train_step.is_stale(run):
                    train_step, evaluate = _compile(run)
                _run_steps(run, train_step, reporter, keep)
            row, small = _sums(run), run.images is not run.train
            run.epoch, run.epoch_step = run.epoch + 1, 0
            started = time.perf_counter()
            for method in methods:
                method.on_epoch_end(run)
            run.compile_seconds += time.perf_counter() - started
            if train_step.is_stale(run) and run.epoch < settings.epochs:
                train_step, evaluate = _compile(run)
            elif train_step.is_stale(run):  # no step is taken any more
                evaluate = Evaluator(run.model, settings.loss)
            _close_epoch(run, row, evaluate, reporter)
            if not small:  # a stage of small images is no end
                _remember_best(run, run.history[-1].get(settings.monitor))
            keep(run)

    trained = _finish(run)
    if folder:
        _write(trained, folder, identity)
    return trained


# ---------------------------------------------------------------- before


def _made(workdir: str | pathlib.Path) -> pathlib.Path:
    folder = pathlib.Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise BadInput(f'fit: workdir "{folder}" cannot be written: {error.strerror}') from error
    return folder


def _check(model, train, validation, settings, strategy) -> None:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise BadInput("fit: the model must be a built functional or sequential keras.Model")
    check_batch_size(settings.batch_size, len(train), strategy, settings.ghost_batch)
    if settings.early_stopping and validation is None:
        raise BadInput("fit: early_stopping needs validation images")
    if train.targets is not None and settings.label_smoothing:
        raise BadInput(
            f"fit: label_smoothing={settings.label_smoothing} smooths labels, the images have "
            "targets in place of them; set it to 0"
        )
    for data in (train, validation):
        if data is not None:
            shape = data.images.shape[1:]
            losses.check_outputs(model, settings.loss, shape, data.num_classes)


def begin(model, train, validation, settings, methods=(), strategy=None) -> Run:
    """The run before its first step: the model in its precision, methods applied, optimizer bound."""
    precision.warn_if_slow(settings.precision)
    strategy = strategy or tf.distribute.get_strategy()
    check_together(methods)
    totals, pace = Totals(), Pace()
    scale = precision.loss_scale_for(settings.precision, settings.loss_scale)
    with strategy.scope():
        working = precision.recast(model, settings.precision)
        run = Run(
            working, settings, train, validation, methods, strategy, scale, totals,
            settings.batch_size, train.images.shape[1:3], pace,
        )  # fmt: skip
        for method in methods:
            method.on_model(run)
        run.model = precision.fused(run.model, settings)
        run.optimizer = run.new_optimizer()
    return run


def _compile(run: Run) -> tuple["CompiledStep", Evaluator]:
    """The step and the evaluator of the run's present model; the time goes into its drawer."""
    started = time.perf_counter()
    made = CompiledStep(run), Evaluator(run.model, run.settings.loss)
    run.compile_seconds += time.perf_counter() - started
    return made


class CompiledStep:
    """The traced step of a model, warmed up on one batch whose effects are undone.

    `macs` is what it takes for one image.
    """

    def __init__(self, run: Run):
        self._made_for, self._step = self._of(run), step.build(run)
        self.macs = 3 * cost(run.model, run.images.images.shape[1:]).macs
        before = [tf.identity(tf.convert_to_tensor(v)) for v in run.variables]
        for images, labels in itertools.islice(_batches(run), 1):
            self._step(images, labels)
        int(run.totals.steps)  # wait for a device that runs ahead
        for variable, value in zip(run.variables, before, strict=True):
            variable.assign(value)

    def __call__(self, images, labels) -> None:
        self._step(images, labels)

    def is_stale(self, run: Run) -> bool:
        """Whether a method has changed the model, optimizer, settings or shape of the batches since."""
        return self._made_for != self._of(run)

    @staticmethod
    def _of(run: Run) -> tuple:
        return run.model, run.optimizer, run.settings, run.batch_size, tuple(run.image_size)


# ---------------------------------------------------------------- an epoch


def _batches(run: Run):
    """The batches of the present epoch from the present step on; distributed over replicas."""
    s = run.settings
    batches = pipeline(
        run.images, run.batch_size, training=True, seed=s.seed, epoch=run.epoch,
        start_step=run.epoch_step % run.steps_per_epoch, augment=make_augment(s.augment),
    )  # fmt: skip
    if run.strategy.num_replicas_in_sync > 1:
        return run.strategy.experimental_distribute_dataset(batches)
    return batches


def _pause(run: Run) -> None:
    """Lets the methods act that want to before the next step."""
    due = [method for method in run.methods if run.epoch_step in method.pauses(run)]
    started = time.perf_counter()
    for method in due:
        method.on_pause(run)
    run.compile_seconds += time.perf_counter() - started


def _run_steps(run: Run, train_step, reporter: Reporter, keep: checkpoint.Keeper) -> None:
    """Takes the steps up to a pause or the epoch's end, looking up now and then to report and save."""
    begun = looked = time.perf_counter()
    first_step = run.step
    ends = [run.steps_per_epoch, *(step for method in run.methods for step in method.pauses(run))]
    end = min(step for step in ends if step > run.epoch_step)
    for images, labels in itertools.islice(_batches(run), end - run.epoch_step):
        train_step(images, labels)
        run.step, run.epoch_step = run.step + 1, run.epoch_step + 1
        run.train_macs += train_step.macs * run.batch_size
        now = time.perf_counter()
        if now - looked < LOOK_SECONDS and run.epoch_step < end:
            continue
        _stop_if_diverged(run)  # reads a variable: a device that runs ahead is waited for
        now = time.perf_counter()
        run.seconds += now - looked
        reporter.step((run.step - first_step) * run.batch_size / (now - begun))
        keep(run)
        looked = time.perf_counter()  # what saving took is not training


def _stop_if_diverged(run: Run) -> None:
    if (bad := int(run.totals.bad_step)) >= 0:
        rate = run.learning_rate_at(run.updates - 1 - (run.step - bad))
        raise _diverged(f"the loss is not finite at step {bad} (epoch {run.epoch + 1})", rate)
    scale = run.loss_scale
    hopeless = min(STUCK_AT, run.steps_per_epoch)
    if isinstance(scale, precision.LossScale) and int(scale.stuck_steps) >= hopeless:
        rate = run.learning_rate_at(run.updates - 1)
        raise Diverged(
            f"fit: {hopeless} float16 steps in a row overflowed at loss scale {float(scale.scale):g} "
            f"(step {run.step}, learning rate {rate:g}); use mixed_bfloat16 or float32"
        )


def _diverged(what: str, rate: float) -> Diverged:
    return Diverged(
        f"fit: {what}, learning rate {rate:g}; lower the learning rate, warm up longer, or check "
        "the data"
    )


def _sums(run: Run) -> dict[str, float]:
    """What the epoch's steps have added up to, before a method changes anything."""
    images = run.steps_per_epoch * run.batch_size
    earlier = run.history[-1]["seconds"] if run.history else 0.0
    row = {"epoch": run.epoch + 1, "loss": float(run.totals.loss) / run.steps_per_epoch}
    if run.settings.loss == "cross_entropy":
        row["accuracy"] = int(run.totals.correct) / images
    return row | {
        "learning_rate": run.learning_rate_at(run.updates - 1),
        "train_macs": run.train_macs,
        "seconds": run.seconds,
        "images_per_second": images / max(run.seconds - earlier, 1e-9),
    }


def _close_epoch(run: Run, row: dict[str, float], evaluate: Evaluator, reporter: Reporter) -> None:
    """Writes the epoch's row of the history: its sums, validation, what methods logged."""
    s = run.settings
    if run.validation is not None and (run.epoch % s.evaluate_every == 0 or run.epoch == s.epochs):
        row |= {f"validation_{k}": v for k, v in evaluate(run.validation).items()}
        if not math.isfinite(row["validation_loss"]):
            what = f"the validation loss is not finite at step {run.step}"
            raise _diverged(what, row["learning_rate"])  # methods may have changed the rate since
    if isinstance(run.loss_scale, precision.LossScale):
        row["loss_scale"] = float(run.loss_scale.scale)
        row["skipped_steps"] = int(run.loss_scale.skipped_steps)
    run.history.append(row | run.scalars)
    run.scalars = {}
    run.totals.reset()
    reporter.epoch(run.history[-1], (s.epochs / run.epoch - 1) * run.seconds)


def _remember_best(run: Run, value: float | None) -> None:
    if run.settings.early_stopping is None or value is None:
        return
    sign = MONITORS[run.settings.monitor]
    if run.best is None or sign * value > sign * run.best.value:
        arrays = [tf.convert_to_tensor(v).numpy() for v in run.model.variables]
        run.best = Best(value, run.epoch, run.model.to_json(), arrays)


def _should_stop(run: Run) -> bool:
    """After a look at the validation images that has come `early_stopping` epochs too late."""
    s = run.settings
    looked = bool(run.history) and s.monitor in run.history[-1]
    return bool(
        s.early_stopping and looked and run.best and run.epoch - run.best.epoch >= s.early_stopping
    )


# ---------------------------------------------------------------- after


def _finish(run: Run) -> Trained:
    """The best weights if early stopping kept them, in float32 and plain Keras layers."""
    model, epoch = run.model, run.epoch
    if run.best:
        epoch = run.best.epoch
        if run.best.model_json != model.to_json():
            model = keras.models.model_from_json(run.best.model_json)
        for variable, value in zip(model.variables, run.best.arrays, strict=True):
            variable.assign(value)
    with tf.distribute.get_strategy().scope():
        made = precision.recast(model, "float32")
    if not all(np.isfinite(w.numpy()).all() for w in made.weights):
        rate = run.history[-1]["learning_rate"]
        raise _diverged(f"weights are not finite after step {run.step}", rate)
    return Trained(
        made, run.history, run.seconds, run.compile_seconds, run.train_macs, epoch,
        peak_memory_mb(),
    )  # fmt: skip


def _write(trained: Trained, folder: pathlib.Path, identity: dict) -> None:
    """Model and history first, then the record that makes the run finished, then no checkpoint."""
    with files.replacing(folder / "model.keras") as temporary:
        trained.model.save(temporary)
    files.write_json(folder / "history.json", {"rows": trained.history})
    record = {k: v for k, v in vars(trained).items() if k not in ("model", "history")}
    files.write_json(folder / "trained.json", {"identity": identity, **record})
    (folder / checkpoint.NAME).unlink(missing_ok=True)


def _read_finished(folder: pathlib.Path, identity: dict) -> Trained | None:
    """The finished run in `folder`, or None; BadInput if it is another one's."""
    if not (folder / "trained.json").exists():
        return None
    record = json.loads((folder / "trained.json").read_text())
    checkpoint.check_fingerprint(record.pop("identity"), identity, folder)
    model = models.load(folder / "model.keras")
    history = json.loads((folder / "history.json").read_text())["rows"]
    return Trained(model=model, history=history, **record)
