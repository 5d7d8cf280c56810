"""Axes and names: every value on the axis, ticks at round numbers, names apart."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tfeffi.study import axes, labels, metrics
from tfeffi.study.labels import Box
from tfeffi.study.markup import Markup, join, tag
from tfeffi.study.scales import Scale, scale

POSITIVE = st.floats(1e-6, 1e12)


@given(st.lists(POSITIVE, min_size=1, max_size=9), st.booleans())
def test_every_value_has_its_place_and_order_on_the_axis(values, upward):
    start, end = (300.0, 20.0) if upward else (60.0, 500.0)
    axis = scale(values, start, end)
    places = [axis(value) for value in sorted(values)]
    assert all(min(start, end) - 1e-6 <= p <= max(start, end) + 1e-6 for p in places)
    assert places == sorted(places, reverse=upward)


@given(
    st.lists(POSITIVE, min_size=1, max_size=9), st.integers(3, 12), st.sampled_from([None, False])
)
def test_ticks_are_few_round_and_inside(values, most, log):
    axis = scale(values, 0, 100, log=log)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert ticks == sorted(set(ticks))
    assert all(axis.low * (1 - 1e-6) <= t <= axis.high * (1 + 1e-6) for t in ticks)
    if axis.log:
        assert all(float(f"{t:.1e}") == pytest.approx(t) for t in ticks)
    else:
        assume(axis.high - axis.low > 1e-6 * axis.high)
        assert ticks


def test_an_axis_is_logarithmic_where_its_values_span_much():
    assert scale([1.0, 100.0], 0, 1).log
    assert not scale([1.0, 5.0], 0, 1).log
    assert not scale([0.0, 100.0], 0, 1).log
    assert not scale([0.1, 1.0], 0, 1, log=False).log


def test_logarithmic_places_are_those_of_the_logarithm():
    axis = Scale(1.0, 1000.0, 0.0, 300.0, log=True)
    assert [axis(v) for v in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert axis(-5.0) == 0.0  # an error bar below zero ends with the axis


def test_ticks_say_their_unit_where_each_has_its_own():
    size, time = metrics.metric("bytes"), metrics.metric("p50_ms")
    axis = Scale(4e4, 2.2e6, 0, 500, log=True)
    assert [text for _, text in axes.ticks(axis, size, 6)] == [
        "50 kB",
        "100 kB",
        "200 kB",
        "500 kB",
        "1 MB",
        "2 MB",
    ]
    assert axes.title(size, axis) == "file, logarithmic"
    axis = Scale(0.0, 1.0, 0, 500)
    texts = [text for _, text in axes.ticks(axis, time, 5)]
    assert texts == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert axes.title(time, axis) == "latency p50 (ms)"


def test_accuracy_is_in_percent_with_the_same_decimals_at_every_tick():
    texts = [
        text
        for _, text in axes.ticks(Scale(0.885, 0.917, 0, 300), metrics.metric("accuracy_mean"), 8)
    ]
    assert texts == ["88.5", "89.0", "89.5", "90.0", "90.5", "91.0", "91.5"]


BOUNDS = Box(0, 0, 1000, 440)
PLACES = st.tuples(st.floats(100, 900), st.floats(40, 400))


@given(st.lists(PLACES, min_size=1, max_size=8))
def test_names_stay_apart_inside_and_off_the_points(points):
    texts = [f"variant_{i}" for i in range(len(points))]
    placed = labels.place(texts, points, BOUNDS)
    assert [label.text for label in placed] == texts
    for label in placed:
        assert label.box.outside(BOUNDS) == 0
    for one, other in itertools.combinations(placed, 2):
        assert one.box.overlap(other.box) == 0
    # A point may be hidden by names only where points crowd.
    assume(all(math.dist(a, b) > 30 for a, b in itertools.combinations(points, 2)))
    for label, (x, y) in itertools.product(placed, points):
        assert label.box.overlap(Box(x - 6, y - 6, x + 6, y + 6)) == 0


def test_a_name_alone_stands_right_of_its_point_and_left_at_the_right_edge():
    (label,) = labels.place(["int8"], [(500, 200)], BOUNDS)
    assert label.anchor == "start" and label.x > 500 and not label.leader
    (label,) = labels.place(["int8"], [(995, 200)], BOUNDS)
    assert label.box.right <= 1000


def test_a_name_keeps_off_lines():
    line = Box(400, 190, 1000, 210)
    (label,) = labels.place(["int8"], [(500, 200)], BOUNDS, obstacles=[line])
    assert label.box.overlap(line) == 0


def test_markup_escapes_what_it_did_not_make():
    made = tag("text", "<script>&", x=1.5, class_="a", data_row=0, title='"')
    assert made == '<text x="1.5" class="a" data-row="0" title="&quot;">&lt;script&gt;&amp;</text>'
    assert tag("circle", r=2) == '<circle r="2"/>'
    assert tag("g", None, tag("p", "a")) == "<g><p>a</p></g>"
    assert join(Markup("<b>"), "<b>") == "<b>&lt;b&gt;"
