"""Kernels find their operators by order and kind, and never a wrong one."""

import dataclasses
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.bench import profile_summary, roofline_files
from tfeffi.bench.profile_layers import layers_of
from tfeffi.bench.profile_match import Kernel, match, partition
from tfeffi.export import litert, operators
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
    """A chain of them."""
    return [
        dataclasses.replace(one, index=at, reads=(at,), writes=(at + 1,))
        for at, one in enumerate(operators)
    ]


def kernels(*names):
    return [Kernel(name) for name in names]


def test_one_kernel_an_operator():
    chain = numbered(
        operator("CONV_2D", CONV), operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8)),
        operator("CONV_2D", POINTWISE), operator("MEAN"), operator("SOFTMAX"),
    )  # fmt: skip
    names = (
        "Convolution (NHWC, F32) IGEMM", "Convolution (NHWC, F32) DWConv",
        "Fully Connected (NC, F32) GEMM", "Mean (ND) Reduce2", "Softmax (NC, F32)",
    )  # fmt: skip
    assert match(kernels(*names), chain) == [0, 1, 2, 3, 4]


def test_an_operator_may_have_no_kernel_or_several():
    chain = numbered(
        operator("PAD"), operator("CONV_2D", CONV), operator("ADD", has_activation=True),
        operator("RESHAPE"), operator("FULLY_CONNECTED", (10, 16)),
    )  # fmt: skip
    names = (
        "Convert (NC, F32, QDU8)", "Convolution (NHWC, QDU8, F32, QC8W) IGEMM", "Add (ND)", "Clamp (NC)",
        "Static Reshape (NC)", "Static Reshape (NC)", "Fully Connected (NC, F32) GEMM",
    )  # fmt: skip
    assert match(kernels(*names), chain) == [1, 1, 2, 2, 3, 4, 4]


def test_a_large_depthwise_kernel_runs_as_a_grouped_convolution():
    seven, three = (operator("DEPTHWISE_CONV_2D", (1, size, size, 8)) for size in (7, 3))
    names = ("Convolution (NHWC, F32) IGEMM", "Convolution (NHWC, F32) DWConv")
    assert match(kernels(*names), numbered(seven, three)) == [0, 1]
    assert match(kernels(names[0]), numbered(three)) == [None]


def test_a_builtin_kernel_says_its_operator_itself():
    chain = numbered(operator("CONV_2D", CONV), operator("CUMSUM"), operator("CONV_2D", CONV))
    conv = "Convolution (NHWC, F32) IGEMM"
    found = match([Kernel(conv), Kernel("CUMSUM", True, 1), Kernel(conv)], chain)
    assert found == [0, 1, 2]
    wrong = [Kernel("CUMSUM", True, 2), Kernel("CUMSUM", True, None), Kernel("CUMSUM", True, 9)]
    assert match(wrong, chain) == [None] * 3


def test_what_is_not_certain_is_not_matched():
    chain = numbered(operator("ADD"), operator("ADD"), operator("CONV_2D", CONV), operator("ADD"))
    names = ("Add (ND)", "Convolution (NHWC, F32) IGEMM", "Add (ND)")
    assert match(kernels(*names), chain) == [None, 2, 3]
    assert match(kernels("Unheard Of (ND)"), chain) == [None]
    assert match(kernels("Add (ND)"), []) == [None] and match([], chain) == []


def test_unpacked_weights_have_no_kernel():
    chain = numbered(operator("DEQUANTIZE", is_constant=True), operator("DEQUANTIZE"))
    assert match(kernels("Convert (NC)"), chain) == [1]


FAMILIES = {
    "CONV_2D": "Convolution (NHWC, F32) IGEMM", "ADD": "Add (ND)", "LOGISTIC": "Sigmoid (NC)",
    "MUL": "Multiply (ND)", "RESHAPE": "Static Reshape (NC)", "CUMSUM": None,
}  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(sorted(FAMILIES)), st.booleans()), max_size=30))
def test_a_kernel_is_never_given_to_a_wrong_operator(drawn):
    """Whatever operators vanish into others: each kernel is matched with its own or with none."""
    chain = numbered(*(operator(kind, CONV if kind == "CONV_2D" else None) for kind, _ in drawn))
    truth, run = [], []
    for one, (kind, vanishes) in zip(chain, drawn, strict=True):
        if not vanishes:
            truth.append(one.index)
            builtin = FAMILIES[kind] is None
            run.append(Kernel(FAMILIES[kind] or kind, builtin, one.index if builtin else None))
    found = match(run, chain)
    assert all(owner in (None, true) for owner, true in zip(found, truth, strict=True))
    if not any(vanishes for _, vanishes in drawn):
        assert found == truth


def test_parts_reach_ahead_in_the_file():
    """The last one waits for nothing: it runs with the first, before the builtin one."""
    chain = numbered(operator("ABS"), operator("CUMSUM"), operator("FLOOR"), operator("NEG"))
    chain[3] = dataclasses.replace(chain[3], reads=(0,))
    assert partition(chain, {1}) == [([], [0, 3]), ([1], [2])]
    run = [
        Kernel("Abs (NC)"),
        Kernel("Negate (NC)"),
        Kernel("CUMSUM", True, 1),
        Kernel("Floor (NC)"),
    ]
    assert match(run, chain) == [0, 3, 1, 2]
    builtin_first = numbered(operator("CUMSUM"), operator("ABS"))
    builtin_first[1] = dataclasses.replace(builtin_first[1], reads=(0,))
    assert partition(builtin_first, {0}) == [([0], [1])]
    loop = [dataclasses.replace(operator("ABS"), reads=(1,), writes=(1,))]
    assert partition(loop, ()) in ([], [([], [])]) and partition([], ()) == []


UNARY = {
    "ABS": "Abs", "NEG": "Negate", "FLOOR": "Floor", "CEIL": "Ceiling", "SQUARE": "Square",
    "EXP": "Exp", "TANH": "TanH", "LOGISTIC": "Sigmoid",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_those_of_litert(tmp_path, seed):
    """Graphs at random, of operators that each occur once: their kernels' names show the real order."""
    random = np.random.default_rng(seed)
    kinds = random.permutation([*UNARY, *["LOG_SOFTMAX"] * 4]).tolist()
    graph = roofline_files._Graph()
    tensors = [graph.tensor((1, 64), "float32")]
    for kind in kinds:
        written = graph.tensor((1, 64), "float32")
        graph.operator(kind, (tensors[random.integers(len(tensors))],), (written,))
        tensors.append(written)
    free = [i for i in tensors[1:] if not any(i in one.inputs for one in graph.operators)]
    path = tmp_path / "graph.tflite"
    path.write_bytes(graph.content(tensors[:1], free))
    request = {
        "model": str(path), "threads": 1, "shapes": None, "warmup_runs": 1, "min_runs": 1,
        "min_seconds": 0.0, "references": {},
    }  # fmt: skip
    script = pathlib.Path(roofline_files.__file__).with_name("profile_runner.py")
    events = litert.call(script, request, path, 60.0)["events"]
    run = [Kernel(name, kind == 2, index) for name, kind, index, _ in events]
    found = match(run, operators.read(path))
    kind_of = {name: kind for kind, name in UNARY.items()}
    wanted = [
        kernel.index if kernel.builtin else kinds.index(kind_of[kernel.name.partition(" (")[0]])
        for kernel in run
    ]
    assert found == wanted and sorted(found) == list(range(len(kinds)))


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
    chain = numbered(*layers)
    found = match([Kernel(row.name, row.builtin) for row in rows], chain)
    assert None not in found and set(found) == set(range(len(chain)))
    assert found == sorted(found)


@pytest.mark.parametrize("machine", ("x86", "arm64_qemu"))
def test_a_recorded_int8_network_is_matched_on_both_processors(machine):
    text = (SAMPLES / f"litert2.3.0_{machine}_ctypes_profile_small_int8.txt").read_text()
    rows = profile_summary.parse(text).rows
    conv, depth = operator("CONV_2D", CONV), operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8))
    chain = numbered(
        conv, depth, conv, depth, conv, depth, operator("MEAN"),
        operator("FULLY_CONNECTED", (10, 16)), operator("SOFTMAX"),
    )  # fmt: skip
    run = [Kernel(row.name, row.builtin, row.index if row.builtin else None) for row in rows]
    assert match(run, chain) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]


@pytest.mark.parametrize(
    ("names", "known", "layers"),
    (
        (["m_1/relu_1/Relu;m_1/conv_1/convolution"], None, ("conv", "relu")),
        (["m_1/conv2d_2_1/convolution1"], {"conv2d_2"}, ("conv2d_2",)),
        (["m_1/inner_3/conv2d_2_1/convolution"], {"inner/conv2d_2"}, ("inner/conv2d_2",)),
        (["m_1/bn_1/batchnorm/mul_1;;m_1/pad_1/Pad"], {"bn", "pad"}, ("bn", "pad")),
        (["StatefulPartitionedCall:0", "m_1/dense_1/MatMul1"], {"dense"}, ("dense",)),
        (["m_1/other_1/Relu"], {"dense"}, ()),
        (["m/quant_a_conv/BiasAdd;m/quant_a_conv/Conv2D"], {"a/conv"}, ("a/conv",)),  # from tfmot
        (["m/quant_conv_1/BiasAdd;m/quant_conv_1/Conv2D"], {"conv", "conv_1"}, ("conv_1",)),
        (["StatefulPartitionedCall:0"], None, ()),
        (["arith.constant3", ""], None, ()),
        ([], None, ()),
    ),
)
def test_layers_are_read_from_names(names, known, layers):
    assert layers_of(names, known) == layers
