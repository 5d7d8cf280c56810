"""Times of single operators, measured by real LiteRT on real files."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfeffi
from tests.export import handmade
from tfeffi import bench
from tfeffi.bench import profile_summary
from tfeffi.export import ModelError, operators

QUICK = {"min_runs": 5, "min_seconds": 0.0, "warmup_runs": 1}
BENCH = pathlib.Path(bench.__file__).parent
SAMPLES = pathlib.Path(__file__).with_name("samples")


@pytest.fixture(scope="module")
def model():
    """Some of everything: an operator that XNNPACK does not take, odd channels, two parts, a softmax."""
    return network()


def network(cumsum=True):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(13, 3, padding="same", name="odd")(x)
    x = keras.layers.BatchNormalization(name="normalization")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    if cumsum:  # it has no int8
        x = keras.ops.cumsum(x, axis=1)
    inner = keras.Input((24, 24, 13))
    block = keras.Model(inner, keras.layers.Conv2D(16, 3, name="conv")(inner), name="block")
    x = keras.layers.MaxPooling2D(name="pool")(block(x))
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="logits")(x))


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiled")
    images = np.random.default_rng(0).random((40, 24, 24, 3), np.float32)
    tfeffi.export(model, folder / "float32.tflite", tolerance=1.0)
    plain = network(cumsum=False)
    plain.save(folder / "plain.keras")
    tfeffi.export(
        plain, folder / "int8.tflite", quantize="int8", calibration=images, min_agreement=0.0,
        tolerance=9.0,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def profiled(files, model):
    return bench.profile(files / "float32.tflite", model, **QUICK)


def test_every_operator_has_a_row_in_the_order_of_the_file(profiled, files):
    assert [row.kind for row in profiled.rows] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CUMSUM", "CONV_2D", "MAX_POOL_2D", "RESHAPE",
        "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    assert [row.operator.index for row in profiled.rows] == list(range(8))
    assert not profiled.folded


def test_layers_are_named_those_of_nested_models_by_their_path(profiled):
    names = [row.layers for row in profiled.rows]
    assert set(names[0]) == {"odd", "relu"} and names[0][0] == "odd"
    assert names[1] == ("depthwise",) and names[3] == ("block/conv",) and names[4] == ("pool",)
    assert names[6] == ("logits",)


def test_only_what_xnnpack_does_not_take_ran_in_a_builtin_kernel(profiled):
    assert [row.kind for row in profiled.rows if row.ran == "builtin"] == ["CUMSUM"]


def test_macs_and_bytes_are_those_of_the_layers(profiled, model):
    assert sum(row.operator.macs for row in profiled.rows) == tfeffi.cost(model).macs
    first = profiled.rows[0].operator
    assert first.weight_bytes == 4 * (3 * 3 * 3 * 13 + 13)
    assert (first.input_bytes, first.output_bytes) == (4 * 24 * 24 * 3, 4 * 24 * 24 * 13)
    assert profiled.rows[0].intensity == first.macs / first.bytes


def test_times_add_up(profiled):
    assert profiled.runs >= 5 and profiled.threads == 1
    assert sum(row.share for row in profiled.rows) == pytest.approx(1)
    assert all(row.ms >= 0 and row.least_ms > 0 for row in profiled.rows)
    assert 0 < sum(row.ms for row in profiled.rows) < 1.05 * profiled.ms


def test_the_machine_is_measured_in_the_same_run(profiled):
    machine = profiled.machine
    assert machine.threads == 1
    assert set(machine.macs_per_second) == {"float32", "int8"}
    assert min(machine.macs_per_second.values()) > 1e8
    speeds = list(machine.bytes_per_second.values())
    assert speeds == sorted(speeds, reverse=True) and speeds[-1] > 1e7


def test_the_record_is_json_and_a_table(profiled):
    record = json.loads(json.dumps(profiled.to_json(), allow_nan=False))
    assert len(record["rows"]) == 8 and len(record["worst"]) == 8
    assert record["rows"][2]["operator"] == "CUMSUM" and record["rows"][2]["ran"] == "builtin"
    assert all(worst["advice"] for worst in record["worst"])
    table = profiled.table()
    for text in ("CUMSUM", "builtin", "block/conv", "worst", "GMAC/s", "LiteRT 2.3"):
        assert text in table
    losses = [row.lost_ms for row in profiled.worst()]
    assert losses == sorted(losses, reverse=True) and len(profiled.worst(3)) == 3


def test_an_int8_file_shows_where_it_leaves_int8(files):
    found = bench.profile(files / "int8.tflite", files / "plain.keras", **QUICK)
    assert found.rows[0].kind == "QUANTIZE" and found.rows[-1].kind == "DEQUANTIZE"
    by_kind = {row.kind: row for row in found.rows}
    assert by_kind["CONV_2D"].dtype == "int8"
    assert any("integer inputs" in line for line in found.advice(found.rows[0]))


def test_without_the_keras_model_layers_are_named_as_in_the_file(files):
    rows = bench.profile(files / "float32.tflite", **QUICK).rows
    assert rows[0].layers[0] == "odd" and rows[3].layers == ("block/conv",)


def test_an_open_shape_is_given(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 1, 1, 3), signature=(-1, -1, -1, 3))
    with pytest.raises(ModelError, match="open shape") as caught:
        bench.profile(path, **QUICK)
    assert "\n" not in str(caught.value)
    (row,) = bench.profile(path, input_shapes=[(1, 32, 16, 3)], **QUICK).rows
    assert row.operator.output_shape == (1, 32, 16, 3)
    assert row.operator.bytes == 2 * 4 * 32 * 16 * 3


def test_threads_reach_the_engine(files):
    assert bench.profile(files / "float32.tflite", threads=2, **QUICK).machine.threads == 2


@pytest.mark.parametrize(
    ("make", "line"),
    (
        (handmade.aborting, "made LiteRT abort"),
        (handmade.with_custom_operator, 'needs the custom operator "Landmarks"'),
        (lambda path: path.write_text("this is not a model"), "is not a .tflite file"),
        (lambda path: path, "there is no model file"),
    ),
)
def test_what_cannot_run_gives_a_line_and_this_process_lives(tmp_path, make, line):
    make(tmp_path / "m.tflite")
    with pytest.raises(ModelError, match=line) as caught:
        bench.profile(tmp_path / "m.tflite", **QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", (0.1, 0.5, 0.95))
def test_a_truncated_file_gives_a_line(files, tmp_path, part):
    content = (files / "float32.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(part * len(content))])
    for read in (lambda: bench.profile(path, **QUICK), lambda: operators.read(path)):
        with pytest.raises(ModelError, match="cut short"):
            read()


def test_what_cannot_be_used_is_refused(files, tmp_path):
    image = keras.Input((4,))
    other = keras.Model(image, keras.layers.Dense(2, name="elsewhere")(image))
    for kwargs, line in (
        ({"threads": 0}, "threads 0 must be at least 1"),
        ({"threads": 100_000}, "threads 100000 must be at most 1024"),
        ({"min_runs": 0}, "min_runs 0 must"),
        ({"min_seconds": -1}, "min_seconds -1 must be at least 0"),
        ({"min_seconds": float("nan")}, "min_seconds nan must be at least 0"),
        ({"timeout": -1}, "timeout -1 must be above 0"),
        ({"model": other}, "names no layer of the Keras model"),
        ({"model": tmp_path / "no.keras"}, "there is no model file"),
        ({"timeout": 0.01}, r"did not finish within 0\.01 s"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            bench.profile(files / "float32.tflite", **{**QUICK, **kwargs})


def test_a_file_of_several_views_has_the_layers_of_its_model(model, tmp_path):
    path = tmp_path / "twice.tflite"
    tfeffi.export(model, path, views="flip", tolerance=1.0)
    found = bench.profile(path, model=model, **QUICK)
    tfeffi.export(model, tmp_path / "once.tflite", tolerance=1.0)
    once = bench.profile(tmp_path / "once.tflite", model=model, **QUICK)
    named = {layer for row in once.rows for layer in row.layers}
    assert named <= {layer for row in found.rows for layer in row.layers}


def test_a_compact_file_names_no_layers(model, tmp_path):
    path = tmp_path / "compact.tflite"
    tfeffi.export(model, path, compact=True, tolerance=1.0)
    assert bench.profile(path, **QUICK).rows
    with pytest.raises(tfeffi.BadInput, match="a file that is not compact"):
        bench.profile(path, model=model, **QUICK)


def test_another_version_of_litert_is_refused_in_a_line():
    code = "import profile_runner as p; p.KNOWN = ('9.9.',); p.library()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(BENCH)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(
        "ValueError: profiling knows the C API of ai-edge-litert 9.9.*, not of 2.3."
    )


def test_profiling_does_not_load_tensorflow(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    code = (
        f"import sys; from tfeffi import bench; bench.profile({str(path)!r}, min_runs=1, "
        "min_seconds=0); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "rows", "first_ms", "total_us", "builtin"),
    (
        ("x86_ctypes_profile_small_int8", 10, 0.035, 3073, ["SOFTMAX"]),
        ("arm64_qemu_ctypes_profile_small_int8", 10, 0.546, 12123, ["SOFTMAX"]),
        ("x86_ctypes_profile_mnv2_f32", 66, 0.027, 10331, []),
    ),
)
def test_recorded_summaries_are_read(name, rows, first_ms, total_us, builtin):
    text = (SAMPLES / f"litert2.3.0_{name}.txt").read_text()
    found = profile_summary.parse(text)
    assert len(found.rows) == rows and found.total_us == total_us
    assert found.rows[0].ms == first_ms and found.rows[0].name.startswith("Convolution (NHWC, ")
    assert [row.name for row in found.rows if row.builtin] == builtin
    each = sum(row.ms * row.runs for row in found.rows) * 1e3
    assert each == pytest.approx(total_us, rel=0.02)  # it prints whole microseconds


@pytest.mark.parametrize("cut", (0.0, 0.1, 0.3))
def test_a_summary_that_is_cut_off_is_refused(cut):
    text = (SAMPLES / "litert2.3.0_x86_ctypes_profile_small_int8.txt").read_text()
    with pytest.raises(tfeffi.BadInput, match="no whole profile"):
        profile_summary.parse(text[: int(cut * len(text))])


def test_sizes_on_disk_and_in_memory_are_all_in_the_table_of_latencies(files):
    """The file, zipped, the arena, and what the process grew by."""
    latency = bench.benchmark(files / "int8.tflite", **QUICK)
    header, row = latency.table().splitlines()[:2]
    assert [name in header for name in ("KB", "zip KB", "arena KB", "memory MB")] == [True] * 4
    for size in (latency.bytes, latency.zip_bytes, latency.activation_bytes):
        assert f"{size / 1000:.1f}" in row
