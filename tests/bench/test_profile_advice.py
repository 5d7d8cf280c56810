"""Each rule speaks where it should, and is silent where all is well."""

import dataclasses
import re

import pytest

from tests.bench.test_profile_match import operator
from tfeffi.bench import profile_advice
from tfeffi.bench.profile_record import Row


def row(one, ms=1.0, ran="XNNPACK", dtype="float32", share=0.1, least_ms=0.1, bound="compute"):
    return Row(("kernel",), one, ("layer",), ran, dtype, ms, ms, share, least_ms, bound)


def chain(*rows):
    """Rows of which each reads what the one before wrote."""
    return [
        dataclasses.replace(
            one, operator=dataclasses.replace(one.operator, reads=(at,), writes=(at + 1,), index=at)
        )
        for at, one in enumerate(rows)
    ]


def conv(channels=16, filters=32, size=8, kernel=3, **fields):
    return operator(
        "CONV_2D", (filters, kernel, kernel, channels), macs=10**6, weight_bytes=100,
        input_bytes=10_000, output_bytes=10_000, input_shapes=((1, size, size, channels),),
        output_shape=(1, size, size, filters), **fields,
    )  # fmt: skip


GOOD = row(conv(), ms=1.0, share=0.1, least_ms=0.2)
PLAIN = operator("ADD", input_bytes=10**6, output_bytes=10**6)


def said(middle, before=GOOD, after=GOOD):
    rows = chain(before, middle, after)
    return " | ".join(profile_advice.advice(rows[1], rows))


@pytest.mark.parametrize(
    ("middle", "line"),
    (
        (
            row(operator("CUMSUM"), ran="builtin"),
            "XNNPACK does not take this CUMSUM of float32 activations",
        ),
        (row(operator("DEQUANTIZE", is_constant=True), ran="builtin"), "unpacks weights at every"),
        (row(operator("DEQUANTIZE")), "changes types in the middle of the network"),
        (row(conv(filters=31)), "31 filters: prune or pad to a multiple of 8"),
        (row(conv(channels=13)), "13 channels in: prune or pad"),
        (row(conv(channels=13, filters=31)), "31 filters and 13 channels in"),
        (
            row(operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8), output_shape=(1, 8, 8, 8))),
            "only 9 multiply-adds a value",
        ),
        (
            row(
                operator("FULLY_CONNECTED", (512, 4096), macs=2 << 20, weight_bytes=8 << 20),
                bound="memory",
            ),
            "reads 8389 kB of weights for 2.10 M multiply-adds: int8 weights, fewer units",
        ),
        (row(PLAIN), "moves 2000 kB and multiplies nothing: fuse it .* or make it int8"),
        (row(conv(), ms=0.003), "takes microseconds"),
        (row(conv(), least_ms=0.7), "at 70% of this machine's limit in float32: quantize to int8"),
        (
            row(conv(), least_ms=0.7, dtype="int8"),
            "at 70% of .* wins 30% at most, fewer multiply-adds",
        ),
        (row(conv(), least_ms=1.2, dtype="int8"), "wins 0% at most"),
        (row(conv(size=64)), "16 channels into 32 at 64x64 .*: a stride before it"),
        (GOOD, "16 channels into 32 at 8x8 do not fill the processor.*int8 is faster"),
        (row(operator("SOFTMAX")), "little to gain"),
    ),
)
def test_a_rule_speaks(middle, line):

    assert re.search(line, said(middle)), said(middle)


def test_a_large_first_layer():
    first = row(conv(channels=3, size=96), share=0.4)
    rows = chain(first, GOOD)
    lines = profile_advice.advice(rows[0], rows)
    assert "writes 96x96 positions, 40% of all time" in lines[0]
    assert not any("3 channels" in line for line in lines)  # an image has three
    small = chain(dataclasses.replace(first, share=0.05), GOOD)
    assert "first layer" not in " ".join(profile_advice.advice(small[0], small))
    typed = chain(row(operator("QUANTIZE")), first, GOOD)  # of a file with float inputs
    assert profile_advice.advice(typed[1], typed) == lines
    later = chain(GOOD, first)
    assert "first layer" not in " ".join(profile_advice.advice(later[1], later))


def test_before_the_first_layer_there_is_nothing_to_stride():
    first = row(conv(channels=3, filters=16, size=48))
    rows = chain(first, GOOD)
    (line,) = profile_advice.advice(rows[0], rows)
    assert "3 channels into 16 at 48x48 do not fill the processor: a larger stride" in line
    assert "before" not in line


def test_the_width_of_the_last_layer_is_the_task_s():
    last = row(operator("FULLY_CONNECTED", (10, 16), macs=160, output_shape=(1, 10)))
    rows = chain(GOOD, last, row(operator("SOFTMAX")))
    assert "multiple" not in " ".join(profile_advice.advice(rows[1], rows))


def test_types_at_the_ends_are_no_island():
    rows = chain(row(operator("QUANTIZE")), GOOD, row(operator("DEQUANTIZE")))
    for one in (rows[0], rows[2]):
        assert "export with integer inputs and outputs" in profile_advice.advice(one, rows)[0]


def test_an_unmatched_kernel_says_so_and_no_more_than_two_lines_are_said():
    unmatched = dataclasses.replace(GOOD, operator=None, least_ms=None, bound=None)
    assert "not certain" in profile_advice.advice(unmatched, [unmatched])[0]
    crowded = row(conv(channels=13, filters=31), share=0.5, ms=0.001, ran="builtin")
    rows = chain(crowded, GOOD)
    assert len(profile_advice.advice(rows[0], rows)) == profile_advice.MOST_LINES
    assert unmatched.kind == "unmatched" and unmatched.attained is None and unmatched.lost_ms == 1.0


def test_figures_of_a_row():
    one = row(conv(), ms=2.0, least_ms=0.5)
    assert one.macs_per_second == pytest.approx(1e6 / 2e-3)
    assert one.intensity == pytest.approx(10**6 / 20_100) and one.attained == 0.25
    assert one.lost_ms == 1.5 and one.name == "layer"
    brief = row(conv(), ms=0.001)  # one tick of the clock says nothing of speed
    assert brief.macs_per_second is None and brief.attained is None
    assert dataclasses.replace(one, layers=("a", "b")).name == "a +1"
    assert dataclasses.replace(one, layers=()).name == "-"
