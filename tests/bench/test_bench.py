"""Latency and accuracy of real .tflite files, measured by real LiteRT."""

import json
import pathlib
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

import tfeffi
from tests.export import handmade
from tfeffi import bench
from tfeffi.bench import runner
from tfeffi.bench.latency import interleaved
from tfeffi.export import ModelError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small and a large network, one of them as int8 too."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((40, 16, 16, 3), np.float32)
    for name, filters in (("small", 4), ("large", 64)):
        x = image = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
        x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
        x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(image, x)
        tfeffi.export(model, folder / f"{name}.tflite", batch_size=None if name == "small" else 1)
        tfeffi.export(
            model,
            folder / f"{name}_int8.tflite",
            quantize="int8",
            calibration=images,
            integer_io=True,
            min_agreement=0.0,  # it is not trained
        )
    return folder


QUICK = {"min_runs": 20, "min_seconds": 0.0, "warmup_runs": 2}


def test_a_benchmark_is_whole(files):
    path = files / "large.tflite"
    latency = bench.benchmark(path, min_seconds=0.5)
    assert latency.runs >= 200
    assert latency.runs * latency.mean_ms >= 0.5 * 500  # the calls, not the clock around them
    assert 0 < latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.max_ms
    assert latency.min_ms <= latency.mean_ms <= latency.max_ms and latency.std_ms > 0
    assert latency.first_ms > 0 and latency.init_ms > 0
    assert latency.bytes == path.stat().st_size > latency.zip_bytes > 0
    assert (
        20 < latency.peak_memory_mb < 1000 and 0 < latency.model_memory_mb < latency.peak_memory_mb
    )
    assert latency.engine.startswith("LiteRT ") and latency.cpu and latency.cores >= 1
    record = json.loads(json.dumps(latency.to_json(), allow_nan=False))
    assert record["p50_ms"] == latency.p50_ms and "ratio" not in record
    assert "large.tflite" in latency.table() and latency.cpu in latency.table()


def test_runs_and_seconds_are_both_reached(files):
    few = bench.benchmark(files / "small.tflite", **QUICK)
    assert few.runs == 20
    long = bench.benchmark(files / "small.tflite", min_runs=1, min_seconds=0.3)
    assert long.runs > 20 and long.runs * long.mean_ms > 100


def test_compare_finds_the_faster_file(files):
    paths = [files / f"{name}.tflite" for name in ("large", "small", "large_int8")]
    rows = bench.compare(paths, rounds=3, min_runs=60, min_seconds=0.0).rows
    assert [row.model for row in rows] == [str(path) for path in paths]
    assert [row.ratio_to for row in rows] == [str(paths[0])] * 3
    assert [row.rounds for row in rows] == [3] * 3 and all(row.runs >= 60 for row in rows)
    assert rows[0].ratio == rows[0].ratio_low == rows[0].ratio_high == 1.0
    assert rows[1].ratio_low <= rows[1].ratio <= rows[1].ratio_high < 0.3  # 200 times fewer MACs
    assert rows[1].p50_ms < 0.5 * rows[0].p50_ms
    assert rows[2].bytes < 0.5 * rows[0].bytes


def test_memory_grows_with_the_model(files, tmp_path):
    image = keras.Input((1500,))
    path = tmp_path / "wide.tflite"
    tfeffi.export(keras.Model(image, keras.layers.Dense(1500)(image)), path)
    wide = bench.benchmark(path, **QUICK)
    small = bench.benchmark(files / "small.tflite", **QUICK)
    assert wide.model_memory_mb - small.model_memory_mb > 0.9 * 4 * 1500**2 / 2**20


def test_a_tiny_model_takes_next_to_no_memory_or_time(tmp_path):
    tiny = bench.benchmark(handmade.relu(tmp_path / "m.tflite", shape=(1, 8)), min_seconds=0.2)
    assert tiny.runs > 10_000  # their times must not be counted, nor the libraries' own start
    assert 0 <= tiny.model_memory_mb < 3
    # drawing as many random values takes longer than opening it
    wide = bench.benchmark(handmade.relu(tmp_path / "w.tflite", shape=(1, 1 << 24)), **QUICK)
    assert wide.init_ms < 20
    assert 64 <= wide.model_memory_mb < 64 * 2 + 3  # its input and output, once each


def test_percentiles_of_known_times():
    seconds = np.random.default_rng(0).permutation(np.arange(1, 102)) / 1e3
    assert runner.summary(seconds) == pytest.approx(
        {
            "runs": 101, "p50_ms": 51, "p90_ms": 91, "mean_ms": 51, "min_ms": 1, "max_ms": 101,
            "std_ms": np.sqrt((101**2 - 1) / 12),
        }
    )  # fmt: skip
    assert runner.summary([0.001, 0.002])["p90_ms"] == pytest.approx(1.9)


def test_the_first_runs_are_not_among_the_timed_ones():
    calls = []

    def invoke():  # slow at first, as a cold model is
        calls.append(len(calls))
        if len(calls) <= 4:
            time.sleep(0.05 if len(calls) == 1 else 0.02)

    assert 0.05 <= runner.warmed(invoke, 4) < 0.07 + 0.5
    assert len(calls) == 4
    times = runner.timed(invoke, 25, 0.0)
    assert len(times) == 25 and len(calls) == 29
    assert np.median(times) < 0.005


def test_files_take_turns():
    order = []

    def measure(path):
        order.append(path)
        return path, len(order)

    answers = interleaved(measure, ["a", "b"], 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert answers == [[("a", 1), ("a", 3), ("a", 5)], [("b", 2), ("b", 4), ("b", 6)]]


def test_memory_is_the_growth_of_the_peak():
    assert runner.grown_kb((100, 120), (150, 170)) == 70
    assert runner.grown_kb((100, 120), (110, 120)) == 10  # the peak was someone else's
    assert runner.grown_kb((100, 120), (90, 120)) == 0
    assert runner.grown_kb((100, None), (110, None)) is None


def test_the_bench_does_not_load_tensorflow(files):
    code = (
        f"import sys; from tfeffi import bench; bench.benchmark({str(files / 'small.tflite')!r}, "
        "min_runs=1, min_seconds=0); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_open_shape_must_be_given(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 1, 1, 3), signature=(-1, -1, -1, 3))
    with pytest.raises(ModelError, match=r"open shape \[-1, -1, -1, 3\]: .*--input_shape"):
        bench.benchmark(path, **QUICK)
    assert bench.benchmark(path, input_shapes=[(1, 32, 32, 3)], **QUICK).runs == 20
    for wrong in ([(1, 32, 32, 4)], [(1, 32, 3)], [(1, 0, 32, 3)], [(1, 32, 32, 3)] * 2):
        with pytest.raises(ModelError):
            bench.benchmark(path, input_shapes=wrong, **QUICK)


@pytest.mark.parametrize(
    ("make", "line"),
    (
        (handmade.aborting, "made LiteRT abort .SIGSEGV"),
        (handmade.with_custom_operator, 'needs the custom operator "Landmarks"'),
        (lambda path: path.write_text("this is not a model"), "is not a .tflite file"),
        (lambda path: path, "there is no model file"),
    ),
)
def test_what_cannot_run_gives_a_line_and_this_process_lives(tmp_path, make, line):
    make(tmp_path / "m.tflite")
    with pytest.raises(ModelError, match=line):
        bench.benchmark(tmp_path / "m.tflite", **QUICK)


@pytest.mark.parametrize("part", (0.1, 0.5, 0.9))
def test_a_truncated_file_gives_a_line(files, tmp_path, part):
    content = (files / "large.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ModelError, match="cut short"):
        bench.benchmark(path, **QUICK)


@pytest.mark.parametrize(
    ("kwargs", "line"),
    (
        ({"device": "hots"}, 'unknown device "hots"; did you mean "host"'),
        ({"device": "host:pixel"}, "the host has no addresses"),
        ({"threads": 0}, "threads 0 must be at least 1"),
        ({"min_runs": 0}, "min_runs 0 must"),
        ({"warmup_runs": 0}, "warmup_runs 0 must"),
        ({"min_seconds": -1.0}, "min_seconds -1"),
        ({"timeout": 0.01}, r"did not finish within 0\.01 s"),
    ),
)
def test_what_cannot_be_used_is_refused(files, kwargs, line):
    with pytest.raises(tfeffi.BadInput, match=line):
        bench.benchmark(files / "small.tflite", **{**QUICK, **kwargs})


def test_nothing_to_compare_is_refused():
    with pytest.raises(tfeffi.BadInput, match="no model to benchmark"):
        bench.compare([])


@pytest.mark.parametrize("name", ("small", "small_int8", "large", "large_int8"))
def test_accuracy_is_counted(files, name):
    """Against its own class for every image and a label shifted for every fourth one."""
    stored = np.random.default_rng(1).integers(0, 256, (70, 16, 16, 3), np.uint8)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(files / f"{name}.tflite"))
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    labels = []
    for pixels in stored:
        values = pixels / np.float32(255)
        if name.endswith("int8"):
            scale, zero_point = image["quantization"]
            values = np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(image["index"], values[None])
        interpreter.invoke()
        labels.append(interpreter.get_tensor(output["index"]).argmax())
    labels = np.array(labels)
    labels[::4] = (labels[::4] + 1) % 10
    wanted = pytest.approx(1 - len(labels[::4]) / 70)

    data = types.SimpleNamespace(images=stored, labels=labels)
    assert bench.evaluate(files / f"{name}.tflite", data) == wanted
    arrays = stored / np.float32(255), labels
    assert bench.evaluate(files / f"{name}.tflite", *arrays, threads=1, batch_size=7) == wanted


def test_evaluate_refuses_what_has_no_accuracy(files, tmp_path):
    images = np.zeros((3, 16, 16, 3), np.float32)
    for arguments, line in (
        ((images,), "needs labels"),
        ((images, np.zeros(2)), "one label an image, got 3 and 2"),
        ((images[:0], np.zeros(0)), "one label an image, got 0 and 0"),
        ((images[:, 1:], np.zeros(3)), "takes the shape"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            bench.evaluate(files / "small.tflite", *arguments)
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 16, 16, 3))
    with pytest.raises(tfeffi.BadInput, match="is not a classifier"):
        bench.evaluate(path, images, np.zeros(3))


def test_all_devices_are_there_before_the_first_is_measured(abacus, tmp_path, monkeypatch):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    monkeypatch.setenv("PATH", str(tmp_path))  # where no adb is
    with pytest.raises(tfeffi.BadInput, match="adb"):
        bench.compare([path], device=[abacus, "adb:nowhere"], **QUICK)
    assert not pathlib.Path(abacus.partition(":")[2]).exists()
    assert bench.compare([path], device=[abacus], **QUICK).rows[0].engine == "abacus 1"
