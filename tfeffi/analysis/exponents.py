"""What float16 loses: the exponents of numbers, and which of them underflow or overflow.

float16 has normal numbers from 2⁻¹⁴ to 65504 and subnormal ones, of fewer and fewer digits, down to
2⁻²⁴; what is not above half of that becomes zero. Multiplying the loss by 2ᵏ moves every gradient k
places to the right (Micikevicius et al. 2017, arXiv 1710.03740, section 3.2).
"""

import dataclasses

import numpy as np

ZERO, SMALLEST_NORMAL, LARGEST = -25, -14, 15  # 2⁻²⁵ and less is zero; 2¹⁶ and more infinite
_LOW, _HIGH = -149, 127  # of float32


@dataclasses.dataclass(frozen=True)
class Exponents:
    """A histogram over ⌊log₂|x|⌋.

    Attributes:
        low: the exponent of the first count.
        counts: how many numbers have the exponents low, low + 1, …; neither end is zero.
        zeros: numbers that are exactly zero, which have no exponent.
        not_finite: infinities and what is no number.
    """

    low: int
    counts: tuple[int, ...]
    zeros: int
    not_finite: int

    @classmethod
    def of(cls, values: np.ndarray) -> "Exponents":
        """Counts an array of any shape, in float32.

        Example:
            Exponents.of(np.array([1.0, 1.5, 0.25, 0.0]))  # low=-2, counts=(1, 0, 2), zeros=1
        """
        values = np.asarray(values, np.float32).ravel()
        finite = values[np.isfinite(values)]
        exponents = np.frexp(finite[finite != 0])[1] - 1
        counts = np.bincount(exponents - _LOW, minlength=_HIGH - _LOW + 1)
        filled = np.flatnonzero(counts)
        first, last = (filled[0], filled[-1]) if len(filled) else (-_LOW, -_LOW - 1)
        return cls(
            int(first) + _LOW, tuple(map(int, counts[first : last + 1])),
            int(np.sum(finite == 0)), len(values) - len(finite),
        )  # fmt: skip


def float16_shares(values: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Which share of numbers float16 has lost, of those that are not zero in float32.

    Args:
        values: as float16 holds them, in any type.
        exact: the same numbers in float32, of the same shape.

    Returns:
        zero_share: became zero; subnormal_share: are below 2⁻¹⁴ and not zero; overflow_share: are
        not finite. Zeros for arrays without a number that is not zero.

    Example:
        float16_shares(np.float16([1e-9, 1e-5, 1]), np.float32([1e-9, 1e-5, 1]))  # a third, a third, 0
    """
    kept = np.asarray(exact) != 0
    sizes = np.abs(np.asarray(values, np.float32)[kept])
    lost = {
        "zero_share": sizes == 0,
        "subnormal_share": (sizes > 0) & (sizes < 2.0**SMALLEST_NORMAL),
        "overflow_share": ~np.isfinite(sizes),
    }
    return {key: float(one.mean()) if len(sizes) else 0.0 for key, one in lost.items()}
