"""Exponents are those of the number format itself, and a loss scale moves them whole places."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tfeffi.analysis.exponents import LARGEST, SMALLEST_NORMAL, ZERO, Exponents, float16_shares

NUMBERS = st.lists(st.floats(width=32, allow_subnormal=False), max_size=30)


def test_a_histogram_by_hand():
    found = Exponents.of(np.array([[1.0, 1.5], [-0.25, 0.0], [np.inf, np.nan]]))
    assert (found.low, found.counts) == (-2, (1, 0, 2))
    assert (found.zeros, found.not_finite) == (1, 2)


def test_nothing_but_zeros_has_no_exponent():
    found = Exponents.of(np.zeros(3))
    assert found.counts == () and found.zeros == 3


@given(NUMBERS)
def test_every_number_is_counted_once(values):
    found = Exponents.of(np.array(values, np.float32))
    assert sum(found.counts) + found.zeros + found.not_finite == len(values)
    if found.counts:
        assert found.counts[0] and found.counts[-1]
        sizes = [abs(v) for v in values if np.isfinite(v) and v]
        assert 2.0**found.low <= min(sizes) < 2.0 ** (found.low + 1)


@given(st.lists(st.floats(2.0**-60, 2.0**60, width=32), min_size=1), st.integers(-30, 30))
def test_a_loss_scale_moves_the_histogram_and_changes_nothing_else(values, places):
    plain = Exponents.of(np.array(values, np.float32))
    moved = Exponents.of(np.array(values, np.float32) * np.float32(2.0**places))
    assert moved.low == plain.low + places and moved.counts == plain.counts


def test_the_limits_are_those_of_numpy_s_float16():
    with np.errstate(over="ignore"):
        assert np.float16(2.0**ZERO) == 0 != np.float16(1.01 * 2.0**ZERO)
        assert np.finfo(np.float16).tiny == 2.0**SMALLEST_NORMAL
        assert np.isfinite(np.float16(2.0**LARGEST)) and np.isinf(np.float16(2.0 ** (LARGEST + 1)))


def test_shares_are_of_the_numbers_that_were_not_zero():
    exact = np.float32([0.0, 1e-9, 2.0**-20, 1.0, 1e6])
    with np.errstate(over="ignore"):
        shares = float16_shares(exact.astype(np.float16), exact)
    assert shares == {"zero_share": 0.25, "subnormal_share": 0.25, "overflow_share": 0.25}


@given(NUMBERS)
def test_shares_never_overlap(values):
    exact = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        shares = float16_shares(exact.astype(np.float16), exact)
    assert 0 <= sum(shares.values()) <= 1 + 1e-9


def test_no_number_no_share():
    assert set(float16_shares(np.zeros(2), np.zeros(2)).values()) == {0.0}
    assert sum(float16_shares(np.ones(2), np.ones(2)).values()) == pytest.approx(0)
