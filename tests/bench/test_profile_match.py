"""Kernels find their operators by order and kind, and never a wrong one."""

import dataclasses
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.bench import profile_summary
from tfeffi.bench.profile_layers import layers_of
from tfeffi.bench.profile_match import Kernel, match
from tfeffi.export.operators import Operator

SAMPLES = pathlib.Path(__file__).with_name("samples")
CONV, POINTWISE = (16, 3, 3, 8), (16, 1, 1, 8)


def operator(kind, kernel_shape=None, index=0, **fields):
    plain = Operator(
        index=index, kind=kind, names=(), macs=1 if kernel_shape else 0, weight_bytes=0, input_bytes=4,
        output_bytes=4, input_shapes=((1, 8, 8, 8),), output_shape=(1, 8, 8, 16),
        kernel_shape=kernel_shape, dtype="float32", has_activation=False, is_constant=False,
        reads=(index,), writes=(index + 1,),
    )  # fmt: skip
    return dataclasses.replace(plain, **fields)


def numbered(*operators):
    return [dataclasses.replace(one, index=at) for at, one in enumerate(operators)]


def kernels(*names):
    return [Kernel(name) for name in names]


def test_one_kernel_an_operator():
    operators = numbered(
        operator("CONV_2D", CONV), operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8)),
        operator("CONV_2D", POINTWISE), operator("MEAN"), operator("SOFTMAX"),
    )  # fmt: skip
    names = (
        "Convolution (NHWC, F32) IGEMM", "Convolution (NHWC, F32) DWConv",
        "Fully Connected (NC, F32) GEMM", "Mean (ND) Reduce2", "Softmax (NC, F32)",
    )  # fmt: skip
    assert match(kernels(*names), operators) == [0, 1, 2, 3, 4]


def test_an_operator_may_have_no_kernel_or_several():
    operators = numbered(
        operator("PAD"), operator("CONV_2D", CONV), operator("ADD", has_activation=True),
        operator("RESHAPE"), operator("FULLY_CONNECTED", (10, 16)),
    )  # fmt: skip
    names = (
        "Convert (NC, F32, QDU8)", "Convolution (NHWC, QDU8, F32, QC8W) IGEMM", "Add (ND)", "Clamp (NC)",
        "Static Reshape (NC)", "Static Reshape (NC)", "Fully Connected (NC, F32) GEMM",
    )  # fmt: skip
    assert match(kernels(*names), operators) == [1, 1, 2, 2, 3, 4, 4]


def test_a_builtin_kernel_says_its_operator_itself():
    operators = numbered(operator("CONV_2D", CONV), operator("CUMSUM"), operator("CONV_2D", CONV))
    conv = "Convolution (NHWC, F32) IGEMM"
    found = match([Kernel(conv), Kernel("CUMSUM", True, 1), Kernel(conv)], operators)
    assert found == [0, 1, 2]
    wrong = [Kernel("CUMSUM", True, 2), Kernel("CUMSUM", True, None), Kernel("CUMSUM", True, 9)]
    assert match(wrong, operators) == [None] * 3


def test_what_is_not_certain_is_not_matched():
    operators = numbered(
        operator("ADD"), operator("ADD"), operator("CONV_2D", CONV), operator("ADD")
    )
    names = ("Add (ND)", "Convolution (NHWC, F32) IGEMM", "Add (ND)")
    assert match(kernels(*names), operators) == [None, 2, 3]
    assert match(kernels("Unheard Of (ND)"), operators) == [None]
    assert match(kernels("Add (ND)"), []) == [None] and match([], operators) == []


def test_unpacked_weights_have_no_kernel():
    operators = numbered(operator("DEQUANTIZE", is_constant=True), operator("DEQUANTIZE"))
    assert match(kernels("Convert (NC)"), operators) == [1]


FAMILIES = {
    "CONV_2D": "Convolution (NHWC, F32) IGEMM", "ADD": "Add (ND)", "LOGISTIC": "Sigmoid (NC)",
    "MUL": "Multiply (ND)", "RESHAPE": "Static Reshape (NC)", "CUMSUM": None,
}  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(sorted(FAMILIES)), st.booleans()), max_size=30))
def test_a_kernel_is_never_given_to_a_wrong_operator(drawn):
    """Whatever operators vanish into others: each kernel is matched with its own or with none."""
    operators = numbered(
        *(operator(kind, CONV if kind == "CONV_2D" else None) for kind, _ in drawn)
    )
    truth, run = [], []
    for one, (kind, vanishes) in zip(operators, drawn, strict=True):
        if not vanishes:
            truth.append(one.index)
            builtin = FAMILIES[kind] is None
            run.append(Kernel(FAMILIES[kind] or kind, builtin, one.index if builtin else None))
    found = match(run, operators)
    assert all(owner in (None, true) for owner, true in zip(found, truth, strict=True))
    if not any(vanishes for _, vanishes in drawn):
        assert found == truth


def test_a_recorded_network_is_matched_whole():
    """MobileNetV2 0.35: a first convolution, 17 blocks, and the end; kernels as they were recorded."""
    text = (SAMPLES / "litert2.3.0_x86_ctypes_profile_mnv2_f32.txt").read_text()
    rows = profile_summary.parse(text).rows
    point, depth = operator("CONV_2D", POINTWISE), operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8))
    layers = [operator("CONV_2D", CONV), depth, point]
    for block in range(1, 17):
        layers += [point, depth, point]
        if block not in (1, 3, 6, 10, 13, 16):
            layers.append(operator("ADD"))
    layers += [
        point,
        operator("MEAN"),
        operator("FULLY_CONNECTED", (10, 1280)),
        operator("SOFTMAX"),
    ]
    operators = numbered(*layers)
    found = match([Kernel(row.name, row.builtin) for row in rows], operators)
    assert None not in found and set(found) == set(range(len(operators)))
    assert found == sorted(found)


@pytest.mark.parametrize("machine", ("x86", "arm64_qemu"))
def test_a_recorded_int8_network_is_matched_on_both_processors(machine):
    text = (SAMPLES / f"litert2.3.0_{machine}_ctypes_profile_small_int8.txt").read_text()
    rows = profile_summary.parse(text).rows
    conv, depth = operator("CONV_2D", CONV), operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8))
    operators = numbered(
        conv, depth, conv, depth, conv, depth, operator("MEAN"),
        operator("FULLY_CONNECTED", (10, 16)), operator("SOFTMAX"),
    )  # fmt: skip
    run = [Kernel(row.name, row.builtin, row.index if row.builtin else None) for row in rows]
    assert match(run, operators) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]


@pytest.mark.parametrize(
    ("names", "known", "layers"),
    (
        (["m_1/relu_1/Relu;m_1/conv_1/convolution"], None, ("conv", "relu")),
        (["m_1/conv2d_2_1/convolution1"], {"conv2d_2"}, ("conv2d_2",)),
        (["m_1/inner_3/conv2d_2_1/convolution"], {"inner/conv2d_2"}, ("inner/conv2d_2",)),
        (["m_1/bn_1/batchnorm/mul_1;;m_1/pad_1/Pad"], {"bn", "pad"}, ("bn", "pad")),
        (["StatefulPartitionedCall:0", "m_1/dense_1/MatMul1"], {"dense"}, ("dense",)),
        (["m_1/other_1/Relu"], {"dense"}, ()),
        (["StatefulPartitionedCall:0"], None, ()),
        (["arith.constant3", ""], None, ()),
        ([], None, ()),
    ),
)
def test_layers_are_read_from_names(names, known, layers):
    assert layers_of(names, known) == layers
