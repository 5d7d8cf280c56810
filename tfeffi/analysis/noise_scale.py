"""The noise of stochastic gradients: its scale from the settings, and measured from gradients.

Nothing here needs a framework: a gradient is a flat array.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfeffi.errors import BadInput


def noise_scale(
    learning_rate: float, examples: int, batch_size: float, momentum: float = 0.0
) -> float:
    """The scale of the random force of SGD: g = η (N/B − 1) / (1 − m).

    Settings of equal noise scale wander alike; at a full batch there is no noise.

    Args:
        learning_rate: η.
        examples: N, the size of the training set.
        batch_size: B, examples a step, at most N.
        momentum: m, in [0, 1).

    Returns:
        g, in units of the learning rate.

    Raises:
        BadInput: a value out of its range.

    Example:
        noise_scale(0.1, 50_000, 128, momentum=0.9)  # 389.6

    Source: Smith and Le 2017, arXiv 1710.06451; momentum: Smith et al. 2018, arXiv 1711.00489.
    """
    if not 0 < batch_size <= examples:
        raise BadInput(
            f"noise_scale: batch_size={batch_size} must be above 0 and within the {examples} examples"
        )
    if not 0 <= momentum < 1:
        raise BadInput(f"noise_scale: momentum={momentum} must be in [0, 1)")
    return learning_rate * (examples / batch_size - 1) / (1 - momentum)


@dataclasses.dataclass(frozen=True)
class GradientNoise:
    """The two moments of a gradient's noise.

    Attributes:
        gradient_squared: |G|², of the mean gradient over all examples; an unbiased estimate, which
            may be negative where the noise is large.
        trace: tr Σ, the variance of one example's gradient, summed over its coordinates.
    """

    gradient_squared: float
    trace: float

    @property
    def critical_batch_size(self) -> float:
        """tr Σ / |G|²: the batch at which noise and gradient are as large (McCandlish, eq. 2.9).

        Infinite where the estimate of |G|² is not positive: more draws are needed.
        """
        return self.trace / self.gradient_squared if self.gradient_squared > 0 else float("inf")


def variance_factor(batch_size: int, examples: int | None = None) -> float:
    """c(B) in E|G_B|² = |G|² + c(B) tr Σ, for the mean gradient G_B of a batch.

    1/B for a batch drawn with replacement; (1/B) (N − B)/(N − 1) without, from N examples.

    Args:
        batch_size: B.
        examples: N if batches are drawn without replacement, None if with.
    """
    if examples is None or examples == 1:
        return 1 / batch_size
    return (examples - batch_size) / (batch_size * (examples - 1))


def gradient_noise(
    small: tuple[int, float], large: tuple[int, float], examples: int | None = None
) -> GradientNoise:
    """Gradient and noise from the mean squared norms at two batch sizes.

    E|G_B|² = |G|² + c(B) tr Σ is linear in its two unknowns: two sizes give both, without bias.

    Args:
        small, large: (batch size, mean of the squared norms of the batches' mean gradients).
        examples: as for `variance_factor`.

    Raises:
        BadInput: batch sizes that do not rise, or exceed the examples.

    Example:
        gradient_noise((32, 1.9), (512, 0.4)).critical_batch_size

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1, equations A.2; the finite
    population's factor is that of sampling without replacement.
    """
    (b, squared_b), (c, squared_c) = small, large
    if not 0 < b < c or (examples is not None and c > examples):
        raise BadInput(
            f"gradient_noise: batch sizes {b} and {c} must rise and stay within the examples"
        )
    of_b, of_c = (variance_factor(size, examples) for size in (b, c))
    trace = (squared_b - squared_c) / (of_b - of_c)
    return GradientNoise(gradient_squared=squared_c - of_c * trace, trace=trace)


def measure(
    gradient: Callable[[np.ndarray], np.ndarray],
    examples: int,
    small: int,
    large: int,
    draws: int = 100,
    seed: int = 0,
) -> GradientNoise:
    """`gradient_noise` of random batches without replacement.

    Args:
        gradient: from the numbers of a batch's examples (int array) to their mean gradient (flat
            array).
        examples: N; batches are drawn from 0 … N − 1.
        small, large: the two batch sizes.
        draws: batches of each size.
        seed: of the draws.

    Example:
        measure(lambda chosen: (x[chosen] * (x[chosen] @ w - y[chosen])[:, None]).mean(0),
                examples=len(x), small=8, large=128)
    """
    rng = np.random.default_rng(seed)

    def mean_square(size):
        chosen = (rng.permutation(examples)[:size] for _ in range(draws))
        return float(np.mean([np.square(gradient(each)).sum() for each in chosen]))

    if large > examples:
        raise BadInput(f"gradient_noise: a batch of {large} is larger than the {examples} examples")
    return gradient_noise((small, mean_square(small)), (large, mean_square(large)), examples)
