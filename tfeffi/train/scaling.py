"""The learning rate of another batch size than the one it was found for."""

import math
from collections.abc import Mapping
from typing import Any

from tfeffi.errors import BadInput, near

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
    known = ("reference_batch", "rule")
    for key in wish:
        if key not in known:
            raise BadInput(
                f'train setting scale_learning_rate: unknown key "{key}"; {near(key, known)}'
            )
    if "reference_batch" not in wish:
        raise BadInput('train setting scale_learning_rate needs a "reference_batch", such as 256')
    peak = scaled_learning_rate(settings.learning_rate, settings.batch_size, **wish)
    return peak, {"warmup_from": min(1.0, settings.learning_rate / peak), **settings.schedule}
