"""What benchmark_model prints, recorded from real ones (samples/), is read to the number."""

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.bench import native_output

SAMPLES = pathlib.Path(__file__).with_name("samples")
TIMED = {  # sample: runs, warm-up runs, mean, min, max, std, first, init in µs, grown and peak MB
    "x86_default": (539, 270, 1851.19, 1704, 2622, 65, 3231, 628, 6.31641, None),
    "x86_opprof_csv.stdout": (1625, 766, 612.004, 591, 708, 16, 937, 2834, 3.53125, None),
    "x86_opprof_peakmem": (2577, 1297, 384.415, 311, 3484, 96, 887, 427, 4.19922, 10.9609),
    "arm64_under_qemu_opprof": (485, 251, 2011.86, 1892, 15063, 858, 18420, 29751, 3.75781, None),
    "arm64_via_real_adb": (94, 45, 10740.6, 10558, 11281, 142, 30468, 27746, 4.73047, 25.2031),
    "x86_err_badflag": (2555, 1322, 391.174, 330, 23527, 462, 1069, 316, 4.04297, None),
}
MICROSECONDS = ("mean_ms", "min_ms", "max_ms", "std_ms", "first_ms", "init_ms")

# LiteRT's own benchmark_model, as its build instructions show it (shortened).
LITERT = """\
INFO: STARTING!
INFO: [litert/tools/benchmark_litert_model.cc:137] Loading model from: blaze_face.tflite
I0000 00:00:1758455104.504065   62590 accelerator_registry.cc:51] RegisterAccelerator: name=CpuAccelerator
INFO: The input model file size (MB): 0.229746
INFO: Initialized session in 5.757ms.
INFO: count=526 first=2125 curr=969 min=910 max=2125 avg=949.861 std=68 p5=915 median=939 p95=990

INFO: count=1054 first=1015 curr=942 min=910 max=1102 avg=947.132 std=23 p5=915 median=942 p95=991

INFO: [./litert/tools/benchmark_litert_model.h:72]\x20
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:73] Model initialization: 5.76 ms
INFO: [./litert/tools/benchmark_litert_model.h:75] Warmup (first):       2.12 ms
INFO: [./litert/tools/benchmark_litert_model.h:77] Warmup (avg):         0.95 ms (526 runs)
INFO: [./litert/tools/benchmark_litert_model.h:79] Inference (avg):      0.95 ms (1054 runs)
INFO: [./litert/tools/benchmark_litert_model.h:83] Inference (min):      0.91 ms
INFO: [./litert/tools/benchmark_litert_model.h:107] Overall footprint:    7.07 MB
INFO: [./litert/tools/benchmark_litert_model.h:114] Peak memory usage not available. (peak_mem_mb <= 0)
"""


def sample(name):
    path = next(SAMPLES.glob(f"{name}.*"))
    return path.read_text()


@pytest.mark.parametrize("name", TIMED)
def test_every_recorded_time_is_read(name):
    runs, warmup, *microseconds, grown, peak = TIMED[name]
    wanted = dict(zip(MICROSECONDS, (value / 1e3 for value in microseconds), strict=True))
    wanted |= {"runs": runs, "warmup_runs": warmup, "model_kb": grown * 1024}
    if peak:
        wanted["peak_kb"] = peak * 1024
    assert native_output.timings(sample(name)) == pytest.approx(wanted)


def test_all_recorded_outputs_are_tested():
    errors = {"x86_err_corrupt", "x86_err_nofile", "x86_help"}
    tables = {"x86_opprof", "arm64_via_real_adb_opprof"}
    ours = {path.name.rpartition(".")[0] for path in SAMPLES.iterdir()}
    assert ours == {*TIMED, *errors, *tables, *LITERT_BENCHMARK}


@pytest.mark.parametrize(
    ("name", "line"),
    (
        ("x86_err_corrupt", "The model is not a valid Flatbuffer buffer"),
        ("x86_err_nofile", "Could not open '/nonexistent.tflite'."),
        ("x86_help", "usage: benchmark_model <flags>"),
    ),
)
def test_an_error_is_the_telling_line_and_no_time(name, line):
    assert native_output.error(sample(name)) == line
    assert "mean_ms" not in native_output.timings(sample(name))


def test_flags_that_it_did_not_know_are_seen():
    assert native_output.unconsumed(sample("x86_err_badflag")) == "--use_gpu=true"
    assert native_output.unconsumed(sample("x86_default")) is None


def test_statistics_without_a_first_time_tell_none():
    told = "count=2 min=1 max=3 avg=2\ncount=5 min=1 max=3 avg=2"
    assert "first_ms" not in native_output.timings(told)


def test_litert_prints_milliseconds_and_a_median():
    assert native_output.timings(LITERT) == pytest.approx(
        {
            "runs": 1054, "warmup_runs": 526, "mean_ms": 0.947132, "min_ms": 0.91, "max_ms": 1.102,
            "std_ms": 0.023, "p50_ms": 0.942, "first_ms": 2.125, "init_ms": 5.76,
            "model_kb": 7.07 * 1024,
        }
    )  # fmt: skip
    results = LITERT[LITERT.index("==========") :]  # without the statistics only what is rounded
    assert native_output.timings(results) == pytest.approx(
        {"runs": 1054, "mean_ms": 0.95, "min_ms": 0.91, "first_ms": 2.12, "init_ms": 5.76,
         "model_kb": 7.07 * 1024}
    )  # fmt: skip


LITERT_BENCHMARK = {  # mean, p50, min, max, init, first in ms
    "litert-benchmark_2.3.0_x86_mnv2_f32": (0.24, 0.23, 0.23, 0.37, 3.71, 0.48),
    "litert-benchmark_2.3.0_x86_mnv2_int8": (0.33, 0.32, 0.31, 0.42, 3.11, 0.57),
    "litert-benchmark_2.3.0_arm64_qemu_mnv2_int8": None,
}


@pytest.mark.parametrize("name", LITERT_BENCHMARK)
def test_the_python_tool_of_the_same_name_is_read(name):
    found = native_output.timings((SAMPLES / f"{name}.txt").read_text())
    keys = ("mean_ms", "p50_ms", "min_ms", "max_ms", "init_ms", "first_ms")
    assert found.keys() >= {*keys, "runs"} and found["min_ms"] <= found["p50_ms"] <= found["max_ms"]
    if LITERT_BENCHMARK[name]:
        assert tuple(found[key] for key in keys) == LITERT_BENCHMARK[name]
        assert found["runs"] == 100


@pytest.mark.parametrize(
    ("line", "wanted"),
    (
        (  # 2019
            "Average inference timings in us: Warmup: 91471, Init: 4108, Inference: 80660.1",
            {"init_ms": 4.108, "mean_ms": 80.6601},
        ),
        (
            "Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722",
            {"init_ms": 4.452, "mean_ms": 137.722},
        ),
        (  # a logcat of the app
            "11-21 03:12:01.123  4711  4711 I tflite  : Inference timings in us: Init: 5685, "
            "First inference: 18535, Warmup (avg): 14462.3, Inference (avg): 14575.2",
            {"init_ms": 5.685, "first_ms": 18.535, "mean_ms": 14.5752},
        ),
        ("count=1 curr=136", {"runs": 1, "mean_ms": 0.136, "min_ms": 0.136, "max_ms": 0.136}),
        (  # whole microseconds are coarse here, and the mean is not
            "count=9 avg=37.0812 median=37", {"runs": 9, "mean_ms": 0.0370812},
        ),
        ("count=9 avg=37 median=37", {"runs": 9, "mean_ms": 0.037, "p50_ms": 0.037, "step_ms": 1e-3}),
        (
            "Inference (avg): 0.04 ms (9 runs)\nInference (median): 0.00 ms",
            {"runs": 9, "mean_ms": 0.04, "p50_ms": 0.0, "step_ms": 0.01},
        ),
        ("Timings (microseconds): count=1 curr=36", {}),  # of a profile
        ("Memory (bytes): count=0", {}),
        ("Overall peak memory footprint (MB) via periodic monitoring: -1", {}),
        ("Memory footprint delta from the start of the tool (MB): init=0 overall=0", {}),
    ),
)  # fmt: skip
def test_variants_of_a_line(line, wanted):
    assert native_output.timings(line) == pytest.approx(wanted)


PREFIXES = (
    "", "INFO: ", "INFO: [tool.cc:12] ", "11-21 03:12:01.123  4711  4712 I tflite  : ",
    "I/tflite  ( 4711): ", "I0000 00:00:1758455104.504065   62590 tool.cc:51] ",
)  # fmt: skip
number = st.floats(0.001, 1e8)


@given(
    st.sampled_from(PREFIXES), st.integers(1, 10**6), st.sampled_from(("\n", "\r\n")),
    *[number] * 5, st.booleans(),
)  # fmt: skip
def test_a_statistic_is_read_behind_any_prefix(
    prefix, count, end, mean, low, high, std, first, warm
):
    line = (
        f"count={count} first={first!r} curr={high!r} min={low!r} max={high!r} avg={mean!r} "
        f"std={std!r}"
    )
    warmup = f"{prefix}count=7 curr={first!r}{end}{prefix}{end}" if warm else ""
    found = native_output.timings(
        f"{warmup}{prefix}{line}{end}{prefix}Graph: [count=3.tflite]{end}"
    )
    wanted = {
        "runs": count, "mean_ms": mean / 1e3, "min_ms": low / 1e3, "max_ms": high / 1e3,
        "std_ms": std / 1e3,
    }  # fmt: skip
    if warm:
        wanted |= {"warmup_runs": 7, "first_ms": first / 1e3}
    found.pop("step_ms", None)  # of a mean of a few digits
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    (
        ("INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by "
         "the delegate.", "completely"),
        ("Applied NNAPI delegate, and the model graph will be partially executed by the delegate w/ 3 "
         "delegate kernels.", "partially"),
        ("VERBOSE: Replacing 31 out of 31 node(s) with delegate (LITERT_CL) node", "completely"),
        ("VERBOSE: Replacing 30 out of 31 node(s) with delegate (TfLiteGpuDelegateV2) node", "partially"),
        ("Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node", None),
        ("GPU acceleration is unsupported on this platform.\nExplicitly applied XNNPACK delegate, and "
         "the model graph will be completely executed by the delegate.", None),
        ("Though GPU delegate is explicitly applied, the model graph will not be executed by the "
         "delegate.", None),
        ("GPU delegate created.", None),
        ("Replacing 64 out of 66 node(s) with delegate (TfLiteGpuDelegateV2) node\nRestored original "
         "execution plan after delegate application failure.\nReplacing 66 out of 66 node(s) with "
         "delegate (TfLiteXNNPackDelegate) node", None),
        ("Replacing 1 out of 9 node(s) with delegate (TfLiteFlexDelegate) node", None),
        ("Replacing 31 out of 31 node(s) with delegate (LITERT_CL) node\nThough GPU delegate is "
         "explicitly applied, the model graph will not be executed by the delegate.", None),
        ("Replacing 31 out of 31 node(s) with delegate (LITERT_CL) node\nThough XNNPACK delegate is "
         "explicitly applied, the model graph will not be executed by the delegate.", "completely"),
    ),
)  # fmt: skip
def test_a_delegate_is_only_believed_when_it_took_nodes(text, wanted):
    assert native_output.delegated(text) == wanted


@pytest.mark.parametrize("name", ("x86_opprof.csv", "arm64_via_real_adb_opprof.csv",
                                  "x86_opprof_peakmem.txt", "arm64_under_qemu_opprof.txt"))  # fmt: skip
def test_the_profile_lists_the_operators_in_their_order(name):
    found = native_output.operators((SAMPLES / name).read_text())
    assert [operator.kind for operator in found] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D") * 3, "MEAN", "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    assert all(operator.calls == 1 for operator in found)
    assert found[-1].name == "[StatefulPartitionedCall_1:0]:8"
    assert found[0].name == "[functional_1/re_lu_1/Relu;functional_1/conv2d_1/convolution]:0"


def test_the_profile_adds_up_to_the_inference():
    found = native_output.operators(sample("x86_opprof_peakmem"))
    assert [operator.ms for operator in found[:2]] == [0.018, 0.204]
    assert sum(operator.ms for operator in found) == pytest.approx(0.3829, abs=0.005)
    assert native_output.operators(sample("x86_opprof"))[1].ms == 0.304503


def test_kinds_and_names_with_commas():
    text = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"
        "Convolution (NHWC, QC8) IGEMM, 0.5, 0.25, 50%, 50%, 0, 2, Delegate/a, b:0\n"
    )
    assert native_output.operators(text) == (
        native_output.Operator("Convolution (NHWC, QC8) IGEMM", "Delegate/a, b:0", 0.25, 2),
    )
