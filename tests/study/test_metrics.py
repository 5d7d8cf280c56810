"""How numbers are written: checked against what a person would write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.errors import BadInput
from tfeffi.study import metrics


@pytest.mark.parametrize(
    ("value", "unit", "digits", "text"),
    [
        (0.91324, "%", 2, "91.32 %"),
        (0.412, "ms", None, "0.412 ms"),
        (12.345, "ms", None, "12.3 ms"),
        (0.0004, "ms", None, "0.000400 ms"),
        (98_496, "bytes", None, "98.5 kB"),
        (999, "bytes", None, "999 B"),
        (999_600, "bytes", None, "1.00 MB"),
        (98_496, "kB", 1, "98.5 kB"),
        (12_500_000, "count", None, "12.5 M"),
        (78_666, "", 0, "78,666"),
        (4.2, "x", 1, "4.2×"),
        (61.04, "s", None, "61.0 s"),
        (150.0, "min", 1, "2.5 min"),
        (0, "s", None, "0 s"),
        (-0.0031, "points", 2, "−0.31 points"),
    ],
)
def test_numbers_are_written_with_their_unit(value, unit, digits, text):
    assert metrics.write(value, unit, digits) == text


def test_what_was_removed_is_a_percentage_and_more_is_better():
    for key in ("train_seconds_removed_mean", "macs_removed"):
        found = metrics.metric(key)
        assert (found.unit, found.better) == ("%", "more")


def test_a_sign_is_shown_on_request_and_zero_has_none():
    assert metrics.write(0.0031, "points", 2, signed=True) == "+0.31 points"
    assert metrics.write(-0.00001, "points", 2, signed=True) == "0.00 points"


@given(st.floats(1e-6, 1e15), st.sampled_from(sorted([*metrics.UNITS, *metrics.LADDERS])))
def test_three_digits_are_right_whatever_the_size(value, unit):
    number, _, suffix = metrics.write(value, unit).removesuffix("×").partition(" ")
    if unit in metrics.LADDERS:  # it has chosen the prefix
        unit = suffix or ("B" if unit == "bytes" else "")
    read = float(number.replace(",", "")) / metrics.UNITS[unit][0]
    assert read == pytest.approx(value, rel=0.006)


def test_an_unknown_unit_is_answered_with_the_near_ones():
    with pytest.raises(BadInput, match='unit "kbyte": did you mean "bytes"'):
        metrics.write(1, "kbyte")


def test_every_unit_is_of_one_family():
    units = [unit for family in metrics.FAMILIES for unit in family]
    assert sorted(units) == sorted([*metrics.UNITS, *metrics.LADDERS])
    assert metrics.family("s") == ("s", "min", "h")


def test_the_spread_is_written_with_the_decimals_of_the_mean():
    accuracy = metrics.metric("accuracy_mean")
    assert (
        accuracy.with_spread({"accuracy_mean": 0.9132, "accuracy_std": 0.0021}) == "91.32 ± 0.21 %"
    )
    assert accuracy.with_spread({"accuracy_mean": 0.9132}) == "91.32 %"
    worse = {"accuracy_mean": -0.0653, "accuracy_std": 0.0251}
    assert accuracy.with_spread(worse) == "−6.53 ± 2.51 %"
    seconds = metrics.metric("train_seconds_mean")
    assert (
        seconds.with_spread({"train_seconds_mean": 61.2, "train_seconds_std": 1.83})
        == "61.2 ± 1.8 s"
    )
    size = metrics.Metric("bytes_mean", "", "bytes")
    assert size.with_spread({"bytes_mean": 98_496.0, "bytes_std": 512.0}) == "98.5 ± 0.5 kB"


@pytest.mark.parametrize(
    ("key", "title", "unit", "better"),
    [
        ("p50_ms", "latency p50", "ms", "less"),
        ("init_ms", "init", "ms", "less"),
        ("keras_accuracy_mean", "keras accuracy", "%", "more"),
        ("export_seconds", "export seconds", "s", "less"),
        ("cache_bytes", "cache bytes", "bytes", "less"),
        ("top1_agreement", "top1 agreement", "%", "more"),
        ("host_memory_mb", "host memory", "mb", "less"),
        ("depth", "depth", "", ""),
    ],
)
def test_a_key_tells_its_unit(key, title, unit, better):
    found = metrics.metric(key)
    assert (found.title, found.unit, found.better) == (title, unit, better)


def test_megabytes_are_in_the_unit_of_their_key():
    assert metrics.metric("peak_memory_mb").text(512.0) == "512 MB"


def test_ratios_are_times_better_and_absent_where_that_means_nothing():
    baseline = {"p50_ms": 4.0, "images_per_second": 100.0, "depth": 3, "bytes": 0}
    row = {"p50_ms": 1.0, "images_per_second": 250.0, "depth": 6, "bytes": 5}
    assert metrics.ratio(row, baseline, "p50_ms") == 4.0
    assert metrics.ratio(row, baseline, "images_per_second") == 2.5
    assert metrics.ratio(row, baseline, "depth") is None
    assert metrics.ratio(row, baseline, "bytes") is None
    assert metrics.ratio(row, baseline, "p90_ms") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.744, "0.74×"), (1.0, "1.00×"), (1.996, "2.0×"), (14.93, "14.9×"), (120.4, "120×")],
)
def test_times(value, text):
    assert metrics.times(value) == text


def test_the_bytes_of_weights_are_not_those_of_a_file():
    weights, file = metrics.metric("weight_bytes"), metrics.metric("bytes")
    assert (weights.title, weights.text(394_000)) == ("weights", "394 kB")
    assert (file.title, file.text(98_496)) == ("file", "98.5 kB")
