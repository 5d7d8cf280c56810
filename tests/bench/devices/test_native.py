"""Google's native program on this machine; it is in no registry: a stand-in replays a real one."""

import json
import os
import pathlib

import pytest

import tfeffi
from tests.bench.devices import delegates, standin
from tests.bench.devices.test_native_output import LITERT, sample
from tests.export import handmade
from tfeffi import bench
from tfeffi.bench import native
from tfeffi.bench.engine import cpus, mask
from tfeffi.export import ModelError

FIRST = str(min(os.sched_getaffinity(0)))
GPU = "INFO: Explicitly applied GPU delegate, and the model graph will be {} executed by the delegate.\n"
FULL = GPU.format("completely") + sample("x86_default")
SILENT = "WARN: GPU acceleration is unsupported on this platform.\n" + GPU.format(
    "completely"
).replace("GPU", "XNNPACK")


def program(tmp_path, output, **how):
    return standin.write(tmp_path / "benchmark_model", output, **how)


def test_its_times_are_a_row_and_what_it_does_not_tell_is_absent(model, tmp_path):
    binary = program(tmp_path, sample("x86_default"))
    row = bench.benchmark(
        model, threads=2, min_runs=20, min_seconds=0.5, warmup_runs=3,
        engine=bench.Engine(binary=binary),
    )  # fmt: skip
    times = (row.mean_ms, row.min_ms, row.max_ms, row.std_ms)
    assert times == pytest.approx((1.85119, 1.704, 2.622, 0.065))
    assert (row.runs, row.warmup_runs, row.engine) == (539, 270, "benchmark_model")
    assert (row.first_ms, row.init_ms) == pytest.approx((3.231, 0.628)) and row.cpu and row.machine
    assert row.model_memory_mb == pytest.approx(6.31641)
    record = json.loads(json.dumps(row.to_json()))
    assert not {"p50_ms", "p90_ms", "peak_memory_mb", "delegated", "ratio"} & record.keys()
    assert " -  " in row.table()
    assert standin.calls(binary) == [[
        f"--graph={model}", "--num_threads=2", "--warmup_runs=3", "--warmup_min_secs=0",
        "--num_runs=20", "--min_secs=0.5", "--max_secs=600",
    ]]  # fmt: skip


def test_a_median_is_taken_where_there_is_one(model, tmp_path):
    row = bench.benchmark(model, engine=bench.Engine(binary=program(tmp_path, LITERT)))
    assert (row.p50_ms, row.mean_ms) == pytest.approx((0.942, 0.947132)) and row.p90_ms is None


def test_ratios_are_of_means_where_there_is_no_median(tmp_path, model):
    other = handmade.relu(tmp_path / "n.tflite", shape=(1, 16))
    slow = sample("x86_default")
    fast = sample("x86_opprof_peakmem")
    binary = program(
        tmp_path, fast, before=f"case $* in *n.tflite*) cat <<'S'\n{slow}\nS\nexit 0;; esac"
    )
    rows = bench.compare([model, other], rounds=2, engine=bench.Engine(binary=binary)).rows
    assert rows[1].ratio == pytest.approx(1851.19 / 384.415) and rows[0].ratio == 1
    called = [call[0] for call in standin.calls(binary)]
    assert called == [f"--graph={model}", f"--graph={other}"] * 2


COARSE = "Inference (avg): {0} ms (9 runs)\nInference (median): {0} ms"


def test_times_in_coarse_steps_are_said_to_be_so(model, tmp_path):
    binary = program(tmp_path, COARSE.format("0.04"))
    with pytest.warns(UserWarning, match=r"in steps of 0.01 ms, its own is 0.04 ms"):
        bench.benchmark(model, engine=bench.Engine(binary=binary))
    for text in (COARSE.format("0.00"), "count=9 avg=0 median=0"):
        binary = program(tmp_path, text)
        with pytest.raises(ModelError, match="takes less time on host than its program can tell"):
            bench.compare([model, model], rounds=1, engine=bench.Engine(binary=binary))


def test_a_device_may_have_an_engine_of_its_own(model, tmp_path):
    engine = bench.Engine(binary=program(tmp_path, sample("x86_default")))
    assert bench.benchmark(model, engine={"host": engine}).engine == "benchmark_model"
    plain = bench.benchmark(model, engine={}, min_runs=2, min_seconds=0)
    assert plain.engine != "benchmark_model"
    with pytest.raises(tfeffi.BadInput, match='engine of device "adb", which is not measured'):
        bench.benchmark(model, engine={"adb": engine})


def test_operators_are_told_if_asked(model, tmp_path):
    binary = program(tmp_path, sample("x86_opprof_peakmem"))
    row = bench.benchmark(model, engine=bench.Engine(binary=binary, operators=True))
    assert "--enable_op_profiling=true" in standin.calls(binary)[0]
    assert [operator.kind for operator in row.operators][-2:] == ["FULLY_CONNECTED", "SOFTMAX"]
    slowest = row.table().split("\n\n")[1].splitlines()[1]
    assert slowest.split()[:3] == ["DEPTHWISE_CONV_2D", "0.2040", "53.3%"]
    assert row.to_json()["operators"][1] == {
        "kind": "DEPTHWISE_CONV_2D", "ms": 0.204, "calls": 1, "name": row.operators[1].name
    }  # fmt: skip
    plain = program(tmp_path, sample("x86_default"))
    with pytest.raises(ModelError, match="told no operator of"):
        bench.benchmark(model, engine=bench.Engine(binary=plain, operators=True))
    with pytest.raises(tfeffi.BadInput, match="operators needs benchmark_binary"):
        bench.benchmark(model, engine=bench.Engine(operators=True))


def test_what_is_asked_for_becomes_flags(model, tmp_path):
    binary = program(tmp_path, FULL)
    shapes = handmade.relu(tmp_path / "s.tflite", (1, 1, 1, 3), signature=(-1, -1, -1, 3))
    engine = bench.Engine(binary=binary, gpu=True, xnnpack=False)
    row = bench.benchmark(shapes, input_shapes=[(1, 32, 32, 3)], engine=engine)
    assert row.delegated == "completely" and "completely delegated" in row.table()
    assert {
        "--use_gpu=true", "--use_xnnpack=false", "--input_layer=in", "--input_layer_shape=1,32,32,3"
    } <= set(standin.calls(binary)[0])  # fmt: skip
    nnapi = program(tmp_path, FULL.replace("GPU", "NNAPI"))
    bench.benchmark(model, engine=bench.Engine(binary=nnapi, nnapi=True))
    assert {"--use_nnapi=true", "--disable_nnapi_cpu=true"} <= set(standin.calls(nnapi)[-1])
    external = program(tmp_path, FULL.replace("GPU", "EXTERNAL"))
    bench.benchmark(model, engine=bench.Engine(binary=external, external_delegate="/lib/libx.so"))
    assert "--external_delegate_path=/lib/libx.so" in standin.calls(external)[-1]


def test_only_averages_are_a_row_too(model, tmp_path):
    binary = program(tmp_path, "INFO: Inference (avg): 0.95 ms (50 runs)")
    row = bench.compare([model], rounds=2, engine=bench.Engine(binary=binary)).rows[0]
    assert (row.mean_ms, row.runs, row.min_ms) == (0.95, 100, None) and "0.9500" in row.table()


def test_the_table_says_which_model_was_delegated_in_part(model, tmp_path):
    other = handmade.relu(tmp_path / "n.tflite", shape=(1, 16))
    partly = GPU.format("partially") + sample("x86_default")
    once = f"case $* in *n.tflite*) touch {tmp_path}/n; cat <<'S'\n{partly}\nS\nexit 0;; esac"
    gpu = bench.Engine(binary=program(tmp_path, FULL, before=once), gpu=True)
    table = bench.compare([model, other], rounds=1, engine=gpu).table().splitlines()
    assert table[1].startswith("m.tflite  ") and table[2].startswith("n.tflite (partial)  ")
    assert "partially delegated" in table[3]
    turns = f'if [ -e {tmp_path}/m ]; then cat <<"S"\n{partly}\nS\nexit 0; fi; touch {tmp_path}/m'
    gpu = bench.Engine(binary=program(tmp_path, FULL, before=turns), gpu=True)
    assert bench.compare([model], rounds=2, engine=gpu).rows[0].delegated == "partially"


def test_processors_are_set(model, tmp_path):
    told = program(tmp_path, sample("x86_default"), before=f"taskset -p $$ >{tmp_path / 'mask'}")
    first = min(os.sched_getaffinity(0))
    row = bench.benchmark(model, engine=bench.Engine(binary=told, cpu_affinity=str(first)))
    assert (tmp_path / "mask").read_text().split()[-1] == mask([first])
    assert row.cpu_affinity == str(first) and f"on processors {first}" in row.table()


@pytest.mark.parametrize(
    ("output", "engine", "line"),
    (
        (sample("x86_err_badflag"), {"gpu": True}, "does not know --use_gpu=true"),
        (sample("x86_default"), {"gpu": True}, "on the GPU delegate but on the CPU"),
        (SILENT + sample("x86_default"), {"gpu": True}, "on the GPU delegate but on the CPU"),
        (sample("x86_default"), {"nnapi": True}, "on the NNAPI delegate but on the CPU"),
        (sample("x86_default"), {"external_delegate": "x.so"}, "on the external delegate but"),
        ("WARN: Unconsumed cmdline flags: --use_xnnpack=false\n" + sample("x86_default"),
         {"xnnpack": False}, "does not know --use_xnnpack=false"),
        ("nothing that is known", {}, 'holds no times .exit 0.: nothing that is known'),
        ("", {}, "holds no times"),
    ),
)  # fmt: skip
def test_a_time_of_something_else_is_a_failure(model, tmp_path, output, engine, line):
    binary = program(tmp_path, output)
    with pytest.raises(ModelError, match=line):
        bench.benchmark(model, engine=bench.Engine(binary=binary, **engine))


@pytest.mark.parametrize(
    ("output", "line"),
    (
        ("x86_err_corrupt", "is damaged or cut short"),
        ("x86_err_nofile", "Could not open"),
        ("x86_help", "usage: benchmark_model"),
    ),
)
def test_what_it_says_is_the_line(model, tmp_path, output, line):
    with pytest.raises(ModelError, match=line):
        bench.benchmark(
            model, engine=bench.Engine(binary=program(tmp_path, sample(output), code=1))
        )


def foreign(path, machine=183):
    """The head of a program for another processor."""
    elf = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + (2).to_bytes(2, "little")
        + machine.to_bytes(2, "little")
    )
    path.write_bytes(elf + bytes(100))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("machine", ("armv7l", "armv8l"))
def test_a_phone_of_32_bits_is_told_which_build_it_needs(model, tmp_path, machine):
    request = {"binary": str(foreign(tmp_path / "benchmark_model"))}
    with pytest.raises(ModelError, match=f"is built for arm64, the phone is {machine}"):
        native.answer(126, "", str(model), request, machine, "the phone")
    request["binary"] = str(foreign(tmp_path / "benchmark_model", 40))
    with pytest.raises(ModelError, match=r"is not a program for the phone: .* format"):
        native.answer(126, "exec: Exec format error", str(model), request, machine, "the phone")
    with pytest.raises(ModelError, match=r"the phone cannot set cpu_affinity: .*not found"):
        native.answer(
            127, "sh: exec: taskset: not found", str(model), request, machine, "the phone"
        )


def test_what_is_no_program_for_this_machine(model, tmp_path, monkeypatch):
    other = {"x86_64": 183, "aarch64": 62}.get(os.uname().machine, 243)
    for binary, line in (
        (foreign(tmp_path / "foreign", other), "is built for (arm64|x86_64|riscv64), the host is"),
        (tmp_path / "no", "there is no benchmark binary"),
        (program(tmp_path, "", before="kill -ABRT $$"), r"abort .signal 6"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            bench.benchmark(model, engine=bench.Engine(binary=binary))
    plain = program(tmp_path, "")
    plain.chmod(0o644)
    with pytest.raises(tfeffi.BadInput, match="chmod"):
        bench.benchmark(model, engine=bench.Engine(binary=plain))
    with pytest.raises(tfeffi.BadInput, match="chmod"):  # not that of taskset
        bench.benchmark(model, engine=bench.Engine(binary=plain, cpu_affinity=FIRST))
    plain.write_text("#!/no/such/interpreter\n")
    plain.chmod(0o755)
    with pytest.raises(tfeffi.BadInput, match='"benchmark_model" is not a program for the host'):
        bench.benchmark(model, engine=bench.Engine(binary=plain, cpu_affinity=FIRST))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tfeffi.BadInput, match='the host has no "taskset" on its PATH'):
        bench.benchmark(model, engine=bench.Engine(binary=plain, cpu_affinity=FIRST))
    monkeypatch.undo()
    slow = program(tmp_path, "", before="exec sleep 60")
    with pytest.raises(ModelError, match=r"within 0\.3 s"):
        bench.benchmark(model, timeout=0.3, engine=bench.Engine(binary=slow))


@pytest.mark.parametrize(
    ("engine", "line"),
    (
        ({"gpu": True}, "gpu needs the native program"),
        ({"nnapi": True}, "nnapi needs the native program"),
        ({"gpu": True, "nnapi": True}, "gpu and nnapi exclude each other"),
        ({"python": "python3"}, "device_python is for devices"),
        ({"folder": "/tmp"}, "device_folder is for devices"),
        ({"cpu_affinity": "4096"}, "asks for processor 4096, the host has"),
        ({"external_delegate": "/no/such.so"}, "the delegate /no/such.so does not load"),
        *(
            ({"cpu_affinity": text}, "must be a list")
            for text in (
                "a", "4-", "7-4", "0,7-4", "0-9999999999", "9" * 5000, "0x0", "0x" + "f" * 3000,
                "0xg", ",", "f0",
            )
        ),
    ),
)  # fmt: skip
def test_engines_that_cannot_be(model, engine, line):
    with pytest.raises(tfeffi.BadInput, match=line):
        bench.benchmark(model, min_runs=1, min_seconds=0, engine=bench.Engine(**engine))


def test_processors_of_a_list_and_of_a_mask():
    assert cpus("4-7") == cpus("0xf0") == cpus("4,5,6-7") == [4, 5, 6, 7]
    assert cpus(" 2, 0 ") == [0, 2] and mask([0, 2]) == "5" and mask([4, 5, 6, 7]) == "f0"


def test_python_keeps_to_its_processors_and_kernels(tmp_path):
    """XNNPACK's convolution is faster than the plain one, by far."""
    import keras

    image = keras.Input((32, 32, 16))
    path = tmp_path / "c.tflite"
    tfeffi.export(keras.Model(image, keras.layers.Conv2D(64, 3)(image)), path)
    quick = {"min_runs": 20, "min_seconds": 0.0}
    first = str(min(os.sched_getaffinity(0)))
    plain = bench.benchmark(path, engine=bench.Engine(xnnpack=False, cpu_affinity=first), **quick)
    fast = bench.benchmark(path, engine=bench.Engine(xnnpack=True, cpu_affinity=first), **quick)
    assert plain.min_ms > 1.3 * fast.min_ms and fast.cpu_affinity == first


def test_a_delegate_is_only_believed_when_it_took_nodes(model, tmp_path, monkeypatch):
    import keras

    image = keras.Input((8, 8, 3))
    two = keras.layers.Conv2D(3, 3)(keras.layers.MaxPooling2D()(image))
    several = tmp_path / "two.tflite"
    tfeffi.export(keras.Model(image, two), several)
    quick = {"min_runs": 3, "min_seconds": 0}
    library = delegates.make(tmp_path, nodes=1)
    monkeypatch.chdir(tmp_path)  # a bare name is a file here; the loader would look elsewhere
    engine = bench.Engine(external_delegate=library.name)
    rows = bench.compare([model, several], rounds=2, engine=engine, **quick)
    assert [row.delegated for row in rows.rows] == ["completely", "partially"]
    assert pathlib.Path(f"{library}.used").exists()
    engine = bench.Engine(external_delegate=delegates.make(tmp_path, nodes=0))
    with pytest.raises(ModelError, match=r"the delegate .*libdelegate0\.so took no operator"):
        bench.benchmark(model, engine=engine, **quick)
