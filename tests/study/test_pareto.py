"""The Pareto front against the definition, spelled out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.errors import BadInput
from tfeffi.study import pareto

# Few distinct values, so that ties and duplicates are the rule; NaN and infinities among them.
VALUES = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, math.inf, -math.inf, math.nan])
POINTS = st.integers(1, 4).flatmap(lambda d: st.lists(st.tuples(*[VALUES] * d), max_size=12))


def dominates(a, b, signs):
    """The definition, one pair at a time."""
    pairs = [(x * s, y * s) for x, y, s in zip(a, b, signs, strict=True)]
    if any(math.isnan(v) for pair in pairs for v in pair):
        return False
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def slow_front(points, signs):
    return {
        i
        for i in range(len(points))
        if not any(math.isnan(v) for v in points[i])
        and not any(dominates(points[j], points[i], signs) for j in range(len(points)))
    }


def objectives(signs):
    return {
        "minimize": [i for i, s in enumerate(signs) if s > 0],
        "maximize": [i for i, s in enumerate(signs) if s < 0],
    }


@given(POINTS, st.lists(st.sampled_from([1, -1]), min_size=4, max_size=4))
def test_front_and_dominators_are_those_of_the_definition(points, signs):
    signs = signs[: len(points[0]) if points else 1]
    chosen = objectives(signs)
    assert set(pareto.front(points, **chosen)) == slow_front(points, signs)

    beaten = [[j for j in range(len(points)) if dominates(points[j], p, signs)] for p in points]
    assert pareto.dominators(points, **chosen) == beaten


@given(POINTS, st.randoms())
def test_the_order_of_the_points_does_not_matter(points, random):
    if not points:
        return
    order = list(range(len(points)))
    random.shuffle(order)
    keys = {"minimize": range(len(points[0]))}
    shuffled = pareto.front([points[i] for i in order], **keys)
    assert {order[i] for i in shuffled} == set(pareto.front(points, **keys))


def test_rows_with_keys_ordered_by_the_first_objective():
    rows = [
        {"name": "exact", "p50_ms": 3.0, "accuracy_mean": 0.95},
        {"name": "slow", "p50_ms": 4.0, "accuracy_mean": 0.90},
        {"name": "fast", "p50_ms": 1.0, "accuracy_mean": 0.80},
        {"name": "unmeasured", "accuracy_mean": 0.99},
    ]
    chosen = {"minimize": ["p50_ms"], "maximize": ["accuracy_mean"]}
    assert [rows[i]["name"] for i in pareto.front(rows, **chosen)] == ["fast", "exact"]
    assert pareto.dominators(rows, **chosen) == [[], [0], [], []]


def test_equal_points_are_both_on_the_front_and_a_tie_in_one_objective_is_decided_by_the_other():
    points = [(1, 1), (1, 1), (1, 2), (2, 1)]
    assert pareto.front(points, minimize=[0, 1]) == [0, 1]
    assert pareto.front(points, minimize=[0], maximize=[1]) == [2]


def test_one_point_is_the_front_and_none_is_none():
    assert pareto.front([(5.0, 5.0)], minimize=[0, 1]) == [0]
    assert pareto.front([], minimize=[0]) == []
    assert pareto.front([(math.nan,)], minimize=[0]) == []


def test_no_objective_or_no_number_is_bad_input():
    with pytest.raises(BadInput, match="at least one objective"):
        pareto.front([(1, 2)])
    with pytest.raises(BadInput, match="\"p50_ms\" is 'fast'"):
        pareto.front([{"p50_ms": "fast"}], minimize=["p50_ms"])
