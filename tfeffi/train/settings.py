"""Every knob of a training run in one frozen record, checked before anything is built."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from tfeffi.data import Augment
from tfeffi.errors import BadInput, check_keys, near
from tfeffi.layers import check_ghost_batch
from tfeffi.train.scaling import scaled

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LOSSES = ("cross_entropy", "reconstruction")
VIEWS = ("one", "flip", "flip_and_move")
MONITORS = {"validation_accuracy": 1, "validation_loss": -1}  # 1: larger is better


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        epochs: passes over the training images.
        batch_size: images per step, over all replicas of the strategy.
        learning_rate: the peak of the schedule.
        scale_learning_rate: `{"reference_batch": 256, "rule": "linear" | "sqrt"}`: the batch for
            which `learning_rate` is right; that of `batch_size` follows. Empty: as it stands.
        optimizer: `{"name": "sgd" | "adam" | "adamw", ...}` and Keras's own arguments; or
            `"convolution_muon"`, see `tfeffi.train.muon`.
        schedule: `{"name": "constant" | "step" | "cosine" | "warm_restarts" | "triangular", ...}`;
            see `tfeffi.train.schedules.build`. `warmup_epochs` may stand in any of them.
        precision: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"` (float32 master weights).
        loss_scale: `"dynamic"` or a fixed factor; used by mixed_float16 only.
        loss: `"cross_entropy"` on integer labels, or `"reconstruction"`: the mean squared error
            between output and input image.
        label_smoothing: in [0, 1): the true class gets 1 − s, and s is spread over all classes.
        l1, l2: the loss gains l1·Σ|w| + l2·Σw² over kernels (not biases, not normalization).
        augment: `{"crop": pixels, "flip": bool, "translate": pixels}`.
        early_stopping: epochs without a better `monitor` before the run ends with its best weights.
        monitor: `"validation_accuracy"` or `"validation_loss"`.
        evaluate_every: epochs between two looks at the validation images.
        test_views: of each test image, `"one"`, `"flip"` or `"flip_and_move"`, their outputs averaged;
            see `tfeffi.train.evaluation.averaged`. What the test costs grows with it.
        batch_norm_momentum: of the moving statistics of BatchNormalization, in [0, 1), for
            `batch_size` or the reference batch of `scale_learning_rate`; it follows the batch from
            there, see `tfeffi.train.scaling.moving_statistics`. None for each layer's own.
        ghost_batch: BatchNormalization takes its statistics over so many images at a time, which
            divides batch_size; None for the batch of a replica.
        fuse_batch_normalization: run BatchNormalization through TensorFlow's fused kernel.
        fuse_activations: compile Activation layers (GELU, SiLU, …) to one loop or look-up.
        pack_small_images: in 16 bits, sum kernel gradients over several small images at once.
        checkpoint_seconds: at most so many seconds of work are lost when a run is killed.
        seed: data order, augmentation and whatever methods draw.

    Raises:
        BadInput: a value out of its range; the message names it.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.05
    scale_learning_rate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "sgd", "momentum": 0.9, "nesterov": True}
    )
    schedule: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "cosine"})
    precision: str = "float32"
    loss_scale: str | float = "dynamic"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    augment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    early_stopping: int | None = None
    monitor: str = "validation_accuracy"
    evaluate_every: int = 1
    test_views: str = "one"
    batch_norm_momentum: float | None = None
    ghost_batch: int | None = None
    fuse_batch_normalization: bool = True
    fuse_activations: bool = True
    pack_small_images: bool = True
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "evaluate_every"):
            _demand(isinstance(getattr(self, name), int) and getattr(self, name) >= 1,
                    name, getattr(self, name), "a whole number of at least 1")  # fmt: skip
        for name in ("learning_rate", "label_smoothing", "l1", "l2", "checkpoint_seconds"):
            value = getattr(self, name)
            _demand(isinstance(value, numbers.Real), name, value, "a number")
        _demand(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("l1", "l2", "checkpoint_seconds"):
            _demand(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _demand(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        _choose("precision", self.precision, PRECISIONS)
        _choose("loss", self.loss, LOSSES)
        _choose("monitor", self.monitor, MONITORS)
        _choose("test_views", self.test_views, VIEWS)
        if self.test_views != "one" and self.loss != LOSSES[0]:
            raise BadInput(
                f'train setting test_views="{self.test_views}" is for loss="{LOSSES[0]}"'
            )
        if self.early_stopping is not None:
            late = self.early_stopping
            _demand(isinstance(late, int) and late >= 1, "early_stopping", late, "1 epoch or more")
        if self.batch_norm_momentum is not None:
            momentum = self.batch_norm_momentum
            is_share = isinstance(momentum, numbers.Real) and 0 <= momentum < 1
            _demand(is_share, "batch_norm_momentum", momentum, "in [0, 1), or None")
        if self.loss_scale != "dynamic":
            _demand(
                isinstance(self.loss_scale, int | float) and 1 <= self.loss_scale <= 2**24,
                "loss_scale", self.loss_scale, '"dynamic" or a factor of at least 1, at most 2**24',
            )  # fmt: skip
        _demand(isinstance(self.seed, int), "seed", self.seed, "a whole number")
        if self.early_stopping and (self.loss, self.monitor) == (LOSSES[1], "validation_accuracy"):
            raise BadInput(
                'train setting monitor="validation_accuracy" is not measured for a reconstruction; '
                'set monitor="validation_loss"'
            )
        for name in ("optimizer", "schedule", "scale_learning_rate", "augment"):
            _demand(isinstance(getattr(self, name), Mapping), name, getattr(self, name),
                    'a mapping such as {"name": ...}')  # fmt: skip
        make_augment(self.augment)
        scaled(self)
        if self.ghost_batch is not None:
            check_ghost_batch(self.ghost_batch, self.batch_size)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Settings":
        """Builds Settings from a config's `train` section; an unknown key is BadInput."""
        check_keys("train settings", values, [field.name for field in dataclasses.fields(cls)])
        try:
            return cls(**values)
        except TypeError as error:
            raise BadInput(f"train settings: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in vars(self).items()}


def make_augment(values: Mapping[str, Any]) -> Augment:
    """`settings.augment` as the data room's record; an unknown key is BadInput."""
    known = [field.name for field in dataclasses.fields(Augment)]
    check_keys("train setting augment", values, known)
    return Augment(**values)


def _demand(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise BadInput(f"train setting {name}={value!r} must be {wanted}")


def _choose(name: str, value: Any, known) -> None:
    if value not in known:
        raise BadInput(f'train setting {name}="{value}" is not known; {near(str(value), known)}')
