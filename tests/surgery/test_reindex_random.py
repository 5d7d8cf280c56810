"""Random graphs: dropping equals masking where channels are read, copying and reordering change
nothing."""

import json

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.surgery.drawn import STEPS, Drawn, gap, images, weight
from tfeffi.errors import BadInput
from tfeffi.surgery import groups, reindex

CODE = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 63), st.integers(0, 63))
GRAPH = st.tuples(st.lists(CODE, min_size=1, max_size=5), st.integers(0, 99), st.booleans())
CHECKS = [HealthCheck.too_slow]


def draw(graph):
    codes, seed, dense_head = graph
    return Drawn(codes, seed=seed, dense_head=dense_head)


def family(examples):
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=CHECKS, derandomize=True
    )


@family(60)
@given(GRAPH, st.integers(0, 999))
def test_dropping_equals_masking_where_channels_are_read(graph, seed):
    drawn = draw(graph)
    dropped = drawn.choose(seed)
    small, _ = reindex(drawn.model, drawn.drop(dropped))
    x = images(drawn.model)
    assert gap(drawn.masked(dropped)(x), small(x)) <= 1e-5
    for name, kept in drawn.drop(dropped).items():
        assert _width(small, name) == len(kept)


@pytest.mark.slow
@family(1000)
@given(GRAPH, st.integers(0, 999))
def test_dropping_equals_masking_on_a_thousand_graphs(graph, seed):
    drawn = draw(graph)
    dropped = drawn.choose(seed)
    small, _ = reindex(drawn.model, drawn.drop(dropped))
    x = images(drawn.model)
    assert gap(drawn.masked(dropped)(x), small(x)) <= 1e-5


@family(40)
@given(GRAPH, st.integers(0, 999))
def test_copies_change_nothing(graph, seed):
    drawn = draw(graph)
    """Net2Wider: copies stand beside their source, so that every coupled layer can follow."""
    random = np.random.default_rng(seed)
    often = {one: int(random.integers(1, 4)) for one in drawn.classes()}
    wish = {name: _copies(drawn, name, ids, often) for name, ids in drawn.writes.items()}
    try:
        wide, _ = reindex(drawn.model, wish)
    except BadInput as error:  # parts of one tensor that are tied: blocks of copies tear them
        assume("stand beside each other" not in str(error))
        raise
    x = images(drawn.model)
    assert gap(drawn.model(x), wide(x)) <= 1e-5
    assert all(_width(wide, name) == len(index) for name, index in wish.items())


@family(20)
@given(GRAPH)
def test_keeping_everything_changes_nothing(graph):
    drawn = draw(graph)
    same, slices = reindex(drawn.model, {n: range(len(ids)) for n, ids in drawn.writes.items()})
    before, after = (json.dumps(one.get_config(), default=str) for one in (drawn.model, same))
    assert after == before  # as files have it: a tuple is a list
    assert not any(slices.cuts)
    x = images(drawn.model)
    np.testing.assert_array_equal(drawn.model(x), same(x))


@family(30)
@given(GRAPH)
def test_the_groups_are_those_of_the_graph(graph):
    drawn = draw(graph)
    free = sum(group.size for group in groups(drawn.model) if not group.pinned)
    assert free == len(drawn.classes())


def _copies(drawn, name, ids, often):
    """Each channel with its copies beside it; channels of a depthwise multiplier as a block."""
    roots = [drawn.root(i) for i in ids]
    if "grouped" in name:
        return np.repeat(np.arange(len(ids)), [often.get(root, 1) for root in roots])
    index, start = [], 0
    while start < len(ids):
        end = start
        while end < len(ids) and roots[end] == roots[start]:
            end += 1
        index += list(range(start, end)) * often.get(roots[start], 1)
        start = end
    return np.array(index)


def _kernel(name):
    return "pointwise_kernel" if "separable" in name else "kernel"


def _width(model, name):
    operations = {operation.name: operation for operation in model.operations}
    if name in operations and not isinstance(operations[name], keras.Layer):
        return operations[name].output.shape[-1]
    axis = 2 if "transposed" in name else -1
    return weight(model, name, _kernel(name)).shape[axis]
