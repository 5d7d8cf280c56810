"""tfeffi-benchmark, run as a user runs it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.bench.devices import daemons, standin
from tests.bench.devices.test_native_output import sample
from tests.export import handmade

QUICK = ("--min_runs=20", "--min_seconds=0", "--rounds=2", "--warmup_runs=2")


def benchmark(*flags):
    command = [sys.executable, "-m", "tfeffi.tools.benchmark", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    handmade.relu(folder / "small.tflite", shape=(1, 8))
    handmade.relu(folder / "large.tflite", shape=(1, 256, 256, 16))
    handmade.relu(folder / "open.tflite", shape=(1, 1, 1, 3), signature=(-1, -1, -1, 3))
    handmade.aborting(folder / "aborting.tflite")
    handmade.with_custom_operator(folder / "custom.tflite")
    (folder / "text.tflite").write_text("not a model")
    return folder


def test_one_file(models):
    done = benchmark(f"--model={models / 'small.tflite'}", *QUICK)
    assert done.returncode == 0 and "p50 ms" in done.stdout and "small.tflite" in done.stdout


def test_several_files_and_json(models, tmp_path):
    paths = f"{models / 'large.tflite'},{models / 'small.tflite'}"
    output = tmp_path / "latency.json"
    done = benchmark(f"--model={paths}", f"--output={output}", *QUICK)
    assert done.returncode == 0, done.stderr
    large, small = json.loads(output.read_text())["rows"]
    assert small["ratio"] < 0.5 and small["ratio_to"] == large["model"] == str(
        models / "large.tflite"
    )
    assert large["runs"] >= 20 and large["rounds"] == 2 and large["device"] == "host"
    again = benchmark(f"--model={paths}", f"--output={output}", *QUICK)
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_native_program_and_its_operators(models, tmp_path):
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_opprof_peakmem"))
    flags = (f"--benchmark_binary={binary}", "--profile", "--threads=2", "--cpu_affinity=0")
    done = benchmark(f"--model={models / 'small.tflite'}", *flags, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "0.3844" in done.stdout and "\nDEPTHWISE_CONV_2D  0.2040" in done.stdout
    assert "2 threads on processors 0" in done.stdout
    both = f"--model={models / 'small.tflite'},{models / 'large.tflite'}"
    done = benchmark(both, *flags, *QUICK)
    assert done.returncode == 0 and done.stdout.count("\nDEPTHWISE_CONV_2D  0.2040") == 2


def test_an_open_shape_is_given(models):
    path = models / "open.tflite"
    assert benchmark(f"--model={path}", "--input_shape=1x32x32x3", *QUICK).returncode == 0


@pytest.mark.parametrize(
    ("model", "flags", "line"),
    (
        ("no.tflite", (), "there is no model file"),
        ("text.tflite", (), "is not a .tflite file"),
        ("custom.tflite", (), 'needs the custom operator "Landmarks"'),
        ("aborting.tflite", (), "made LiteRT abort"),
        ("open.tflite", (), "open shape"),
        ("open.tflite", ("--input_shape=1x32xc",), "must read like 1x224x224x3"),
        ("small.tflite", ("--threads=0",), "threads 0 must be at least 1"),
        ("small.tflite", ("--threads=100000",), "threads 100000 must be at most 1024"),
        ("small.tflite", ("--timeout=-1",), "timeout -1.0 must be above 0 seconds"),
        ("small.tflite", ("--device=hst",), 'did you mean "host"?'),
        ("small.tflite", ("--device=host,host",), "each once"),
        ("small.tflite", ("--gpu",), "gpu needs the native program"),
        ("small.tflite", ("--benchmark_binary=no",), 'there is no benchmark binary "no"'),
        ("small.tflite", ("--cpu_affinity=x",), "must be a list such as 4-7"),
        ("small.tflite", ("--cooldown_seconds=-1",), "cooldown_seconds -1.0 must be"),
    ),
)
def test_bad_input_is_one_line_and_exit_code_2(models, model, flags, line):
    done = benchmark(f"--model={models / model}", *flags, *QUICK)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr and done.stderr.count("\n") == 1


def at_work(model):
    """The processes that were given a model, but for the tool itself."""
    found = []
    for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = command.read_text()
            if str(model) in words and "tfeffi.tools" not in words:
                found.append(command.parent.name)
    return found


def test_a_tool_that_is_told_to_end_takes_its_runner_along(tmp_path):
    model = handmade.relu(tmp_path / "endless.tflite", shape=(1, 512, 512, 8))
    tool = subprocess.Popen(
        [sys.executable, "-m", "tfeffi.tools.benchmark", f"--model={model}", "--min_seconds=60"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    runners = []
    try:
        runners = daemons.wait_for(lambda: at_work(model))
        tool.terminate()
        assert tool.wait(20) == 143
        daemons.wait_for(lambda: not at_work(model), 5)
    finally:
        tool.kill()
        tool.wait()
        for runner in runners:
            with contextlib.suppress(OSError):  # it would go on for a minute
                os.kill(int(runner), signal.SIGKILL)


def test_help_reads_well():
    done = benchmark("--help")
    assert "tfeffi-benchmark --model=a.tflite" in done.stdout and "--min_seconds" in done.stdout
