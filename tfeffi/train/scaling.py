"""Learning rate and moving statistics of another batch size than the one they were found for."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from tfeffi import derived
from tfeffi.errors import BadInput, check_keys, near

RULES = {"linear": lambda k: k, "sqrt": math.sqrt}


def scaled_learning_rate(
    learning_rate: float, batch_size: int, reference_batch: int, rule: str = "linear"
) -> float:
    """The learning rate for a batch that is k = batch_size / reference_batch times as large.

    Linear, k·η: k small steps along one gradient are one large step. Square root, √k·η: the noise of
    a step, not of a path, stays. With either goes a warm-up: see `scaled`.

    Args:
        learning_rate: η, which suits `reference_batch`.
        batch_size: images a step, over all replicas.
        reference_batch: images a step for which η was found.
        rule: `"linear"` or `"sqrt"`.

    Returns:
        The learning rate for `batch_size`.

    Raises:
        BadInput: an unknown rule, or a batch below 1.

    Example:
        scaled_learning_rate(0.1, 8192, reference_batch=256)  # 3.2

    Source: Goyal et al. 2017, arXiv 1706.02677, section 2.1; square root: Hoffer et al. 2017,
    arXiv 1705.08741, section 4.
    """
    if rule not in RULES:
        raise BadInput(f'scaled_learning_rate: rule "{rule}" is not known; {near(rule, RULES)}')
    for name, value in (("batch_size", batch_size), ("reference_batch", reference_batch)):
        if not isinstance(value, int) or value < 1:
            raise BadInput(
                f"scaled_learning_rate: {name}={value!r} must be a whole number of at least 1"
            )
    return learning_rate * RULES[rule](batch_size / reference_batch)


@contextlib.contextmanager
def moving_statistics(run) -> Iterator[None]:
    """The momentum of the settings in every BatchNormalization, while a step is traced.

    A momentum of ρ looks back on 1 / (1 − ρ) steps. Keras's 0.99 is a hundred: in a short training with
    large batches the statistics are still those of its beginning, and the trained model is tested with
    them. With a batch of k times the images ρ^k looks back on as many images. Ghost batches, which
    follow one another within a step, leave as much of the old statistics together; `renorm` and
    `synchronized` layers have none.

    Args:
        run: the momentum of its settings is right for the reference batch of `scale_learning_rate`, for
            `batch_size` without one; layers get that for the run's present batch, and have their own
            again afterwards.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1; the power: Busbridge et al. 2023,
    arXiv 2307.13813.
    """
    s = run.settings
    if s.batch_norm_momentum is None:
        yield
        return
    reference = s.scale_learning_rate.get("reference_batch", s.batch_size)
    of_replica = run.batch_size // run.strategy.num_replicas_in_sync
    parts = max(1, of_replica // s.ghost_batch) if s.ghost_batch else 1
    power = run.batch_size / reference
    found = [
        layer
        for layer in derived.inside(run.model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    own = [layer.momentum for layer in found]
    try:
        for layer in found:
            whole = getattr(layer, "renorm", False) or layer.synchronized
            layer.momentum = s.batch_norm_momentum ** (power if whole else power / parts)
        yield
    finally:
        for layer, value in zip(found, own, strict=True):
            layer.momentum = value


def scaled(settings) -> tuple[float, Mapping[str, Any]]:
    """The peak learning rate and the schedule of a run, scaled to its batch if the settings say so.

    A warm-up begins at the rate before scaling, unless the schedule says where (Goyal et al.,
    section 2.2: gradual warm-up from η to k·η).

    Args:
        settings: `tfeffi.train.Settings`, with
            `scale_learning_rate={"reference_batch": 256, "rule": "linear"}`; empty scales nothing.

    Returns:
        The learning rate, and the mapping for `tfeffi.train.schedules.build`.

    Raises:
        BadInput: unknown keys or values.
    """
    wish = dict(settings.scale_learning_rate)
    if not wish:
        return settings.learning_rate, settings.schedule
    check_keys("train setting scale_learning_rate", wish, ("reference_batch", "rule"))
    if "reference_batch" not in wish:
        raise BadInput('train setting scale_learning_rate needs a "reference_batch", such as 256')
    peak = scaled_learning_rate(settings.learning_rate, settings.batch_size, **wish)
    return peak, {"warmup_from": min(1.0, settings.learning_rate / peak), **settings.schedule}
