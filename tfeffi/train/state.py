"""The state of a training run: what methods may look at and change, and what a checkpoint keeps."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfeffi import data, layers
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.surgery import Slices
from tfeffi.train import losses, optimizers, scaling, schedules
from tfeffi.train.precision import LossScale, NoScale, fused
from tfeffi.train.settings import Settings, make_augment


@dataclasses.dataclass
class Best:
    """The best weights so far, and the model they fit (a method may have changed it since)."""

    value: float
    epoch: int
    model_json: str
    arrays: list[np.ndarray]


class Totals:
    """Sums over the steps of the current epoch, kept where the steps run."""

    def __init__(self):
        self.loss = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self.correct = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64)  # since the start of training
        self.bad_step = tf.Variable(-1, trainable=False, dtype=tf.int64)  # first loss not finite

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.loss, self.correct, self.steps, self.bad_step]

    def add(self, loss, correct) -> None:
        """Adds one step. Traced; called across replicas."""
        self.loss.assign_add(tf.cast(loss, tf.float64))
        self.correct.assign_add(correct)
        self.steps.assign_add(1)
        bad = tf.logical_and(self.bad_step < 0, tf.logical_not(tf.math.is_finite(loss)))
        self.bad_step.assign(tf.where(bad, self.steps, self.bad_step))

    def reset(self) -> None:
        """Starts an epoch."""
        self.loss.assign(0.0)
        self.correct.assign(0)


@dataclasses.dataclass
class Run:
    """One training run.

    `step` counts finished steps since the start of training, `epoch_step` since the start of the
    epoch, `epoch` finished epochs. `batch_size` and `image_size` ((height, width)) are those of the
    present epoch. `scalars` is what methods want logged with the epoch.
    """

    model: keras.Model
    settings: Settings
    train: Images
    validation: Images | None
    methods: tuple[Method, ...]
    strategy: tf.distribute.Strategy
    loss_scale: LossScale | NoScale
    totals: Totals
    batch_size: int
    image_size: tuple[int, int]
    pace: schedules.Pace
    optimizer: keras.optimizers.Optimizer | None = None
    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    train_macs: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)
    best: Best | None = None

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.batch_size

    @property
    def images(self) -> Images:
        """The training images in the size of the present epoch."""
        return data.resized(self.train, self.image_size)

    @property
    def updates(self) -> int:
        """Steps of the present optimizer that moved the weights: not those that float16 skipped."""
        return int(tf.convert_to_tensor(self.optimizer.iterations)) if self.optimizer else 0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate that the optimizer's `step`, counted from 0, is or was taken with."""
        return float(self._schedule()(max(step, 0)))

    @property
    def variables(self) -> list:
        """Everything that a step changes."""
        return [
            *self.model.variables, *self.optimizer.variables, *self.loss_scale.variables,
            *self.totals.variables, *self.pace.variables,
            *(v for method in self.methods for v in method.variables),
        ]  # fmt: skip

    def new_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer of the run's settings, bound to its present model.

        Raises:
            BadInput: an unknown one, or one that clips where there are several replicas.
        """
        clipped = [key for key in self.settings.optimizer if "clip" in key]
        if clipped and self.strategy.num_replicas_in_sync > 1:
            raise BadInput(
                f"fit: optimizer {clipped[0]} clips before replicas are summed, so that its meaning "
                "depends on their number; clip in a method's on_gradients instead"
            )
        return optimizers.build(self.settings.optimizer, self._schedule(), self.model)

    def _schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        s = self.settings
        steps = len(self.train) // s.batch_size
        peak, schedule = scaling.scaled(s)
        return schedules.Paced(schedules.build(schedule, peak, s.epochs, steps), self.pace)

    def set_batch_size(self, batch_size: int, learning_rate_factor: float = 1.0) -> None:
        """Goes on with another batch size; for `on_epoch_end`.

        The schedule goes on where the epochs say, whatever steps float16 has skipped, and at
        `learning_rate_factor` times its height.

        Args:
            batch_size: images a step, over all replicas.
            learning_rate_factor: against the schedule of the settings, not the last factor.

        Raises:
            BadInput: a batch larger than the data, or one that does not divide over the replicas.
        """
        check_batch_size(batch_size, len(self.train), self.strategy, self.settings.ghost_batch)
        self.batch_size = batch_size
        an_epoch = len(self.train) // self.settings.batch_size
        self.pace.change(
            self.updates,
            an_epoch / self.steps_per_epoch,
            learning_rate_factor,
            self.epoch * an_epoch,
        )

    def first_loss(self) -> float:
        """The mean loss of the epoch's first batch, as its step computes it; nothing is changed."""
        s, model = self.settings, self.model
        batches = data.pipeline(
            self.images, self.batch_size, training=True, seed=s.seed, epoch=self.epoch,
            augment=make_augment(s.augment),
        )  # fmt: skip
        images, labels = next(iter(batches))
        before = [tf.identity(tf.convert_to_tensor(v)) for v in model.variables]
        outputs = self.strategy.run(lambda: model(images, training=True))
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
        each = losses.per_example(
            s.loss, self.strategy.experimental_local_results(outputs)[0], images, labels,
            s.label_smoothing, losses.gives_probabilities(model),
        )  # fmt: skip
        return float(tf.reduce_mean(each))

    def adopt(self, model: keras.Model, slices: Slices) -> None:
        """Goes on with a model that surgery made of the present one; optimizer slots follow."""
        with self.strategy.scope():
            self.model = fused(model, self.settings)
            self.optimizer = slices.apply_to(self.optimizer, self.model, make=self.new_optimizer)

    def counters(self) -> dict[str, Any]:
        """The plain numbers of the run, for a checkpoint."""
        names = ("epoch", "epoch_step", "step", "seconds", "compile_seconds", "train_macs")
        return {n: getattr(self, n) for n in (*names, "batch_size", "image_size", "history")}


def check_batch_size(
    batch_size: int,
    images: int,
    strategy: tf.distribute.Strategy,
    ghost_batch: int | None = None,
) -> None:
    """Raises BadInput for a batch that the data, replicas or ghost batches do not divide into."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise BadInput(f"fit: batch_size={batch_size!r} must be a whole number of at least 1")
    if batch_size > images:
        raise BadInput(f"fit: batch_size={batch_size} is larger than the {images} training images")
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise BadInput(f"fit: batch_size={batch_size} does not divide over {replicas} replicas")
    if ghost_batch:
        layers.check_ghost_batch(ghost_batch, batch_size // replicas)
