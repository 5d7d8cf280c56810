"""Growing the batch instead of decaying the learning rate.

What a step schedule divides is the noise scale g = η (N/B − 1); a batch that is multiplied does the
same in fewer steps. When the batch is as large as it may be, the rate decays.

Source: Smith et al. 2018, arXiv 1711.00489, sections 3 and 4.
"""

import numbers
import warnings
from collections.abc import Sequence

from tfeffi.analysis.noise_scale import noise_scale
from tfeffi.errors import BadInput
from tfeffi.methods.method import Method, NoEffectWarning
from tfeffi.methods.net2net import Net2Net
from tfeffi.methods.switch_optimizer import SwitchOptimizer


def grown(batch_size: int, factor: float, times: int, max_batch: int, multiple: int = 1) -> int:
    """The batch after `times` decays of the rate by `factor`: B / factorⁱ, at most `max_batch`.

    Args:
        batch_size: B, the first one.
        factor: that the schedule multiplies the rate with, in (0, 1).
        times: i, decays so far.
        max_batch: the largest.
        multiple: the batch is rounded down to multiples of it (replicas, ghost batches).
    """
    wanted = min(round(batch_size / factor**times), max_batch)
    return max(batch_size, wanted // multiple * multiple)


def rate_factor(examples: int, batch_size: int, larger: int) -> float:
    """By how much to multiply the rate so that the larger batch has the noise of the first one.

    η (N/B − 1) = η' (N/B' − 1), so η'/η = (N/B − 1) / (N/B' − 1): about B'/B while B' ≪ N.

    Raises:
        BadInput: a larger batch of all examples, which has no noise, or of more.
    """
    if larger >= examples:
        raise BadInput(f"batch_growth: a batch of {larger} of {examples} examples has no noise")
    return noise_scale(1.0, examples, batch_size) / noise_scale(1.0, examples, larger)


class BatchGrowth(Method):
    """`grown` at the milestones of a step schedule, at the rate that keeps the schedule's noise.

    The schedule goes on decaying its rate; `rate_factor` undoes that as far as the batch has grown.
    Logs `batch_size` and `noise_scale` of each epoch.
    """

    def __init__(self, max_batch: int | None):
        self.max_batch = max_batch

    def on_model(self, run) -> None:
        before = run.methods[: run.methods.index(self)]
        changers = [
            m.name
            for m in before
            if isinstance(m, SwitchOptimizer)
            or (isinstance(m, Net2Net) and m.settings()["learning_rate_factor"] != 1)
        ]
        if changers:
            raise BadInput(
                f"batch_growth: list it ahead of {changers[0]}; it logs the noise of the epoch's own "
                "optimizer and rate"
            )
        self.milestones, self.factor = _decays_of(run.settings.schedule)
        examples, first = len(run.train), run.settings.batch_size
        self.limit = max(examples // 10, 1) if self.max_batch is None else self.max_batch
        if self.limit >= examples:
            raise BadInput(
                f"batch_growth: max_batch={self.limit} must be below the {examples} training images"
            )
        if first >= examples:
            raise BadInput(f"batch_growth: batch_size={first} is all {examples} training images")
        if first >= self.limit:
            warnings.warn(
                f"batch_growth: batch_size={first} is already at the limit of {self.limit}",
                NoEffectWarning,
                stacklevel=2,
            )

    def on_epoch_end(self, run) -> None:
        s, examples = run.settings, len(run.train)
        rate = run.learning_rate_at(run.updates - 1)
        momentum = s.optimizer.get("momentum", 0.0)
        noise = noise_scale(rate, examples, run.batch_size, momentum)
        run.scalars |= {"batch_size": run.batch_size, "noise_scale": noise}
        if run.epoch in self.milestones:
            times = self.milestones.index(run.epoch) + 1
            multiple = run.strategy.num_replicas_in_sync * (s.ghost_batch or 1)
            size = grown(s.batch_size, self.factor, times, self.limit, multiple)
            factor = float(run.pace.factor) * rate_factor(examples, run.batch_size, size)
            run.set_batch_size(size, factor)

    def excludes(self) -> dict[str, str]:
        return {
            "batch_growth": "each sets the batch size",
            "look_ahead": "it counts on as many steps as the first batch size takes",
        }

    def settings(self) -> dict:
        return {"max_batch": self.max_batch}


def _decays_of(schedule) -> tuple[list[int], float]:
    """When a step schedule decays and by what."""
    milestones, factor = schedule.get("milestones", ()), schedule.get("factor", 0.1)
    if schedule.get("name") != "step":
        raise BadInput(
            f'batch_growth: schedule "{schedule.get("name")}" has no steps to grow at; take '
            '{"name": "step", "milestones": ...}'
        )
    is_list = isinstance(milestones, Sequence) and not isinstance(milestones, str)
    if not is_list or not all(_is_whole(milestone) for milestone in milestones):
        raise BadInput(f"batch_growth: milestones={milestones} must be whole epochs")
    if not isinstance(factor, numbers.Real) or not 0 < factor < 1:
        raise BadInput(f"batch_growth: the schedule's factor={factor!r} must be in (0, 1)")
    return list(milestones), factor


def _is_whole(milestone) -> bool:
    return isinstance(milestone, numbers.Real) and float(milestone).is_integer()


def build(max_batch: int | None = None) -> BatchGrowth:
    """The method.

    Args:
        max_batch: images a step at most; None for a tenth of the training images.
    """
    if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 1):
        raise BadInput(
            f"batch_growth: max_batch={max_batch!r} must be a whole number of at least 1"
        )
    return BatchGrowth(max_batch)
