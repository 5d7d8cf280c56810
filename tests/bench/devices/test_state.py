"""Temperature and clock, read by a shell from a tree such as the kernel shows."""

import subprocess

import pytest

from tests.bench.devices import standin
from tests.bench.devices.test_native_output import sample
from tests.export import handmade
from tfeffi import bench
from tfeffi.bench import runner, state


def read(root):
    done = subprocess.run(
        ["sh", "-c", state.script(str(root))], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return state.read(done.stdout)


def tree(root, zones=(), clocks=()):
    for number, (value, kind) in enumerate(zones):
        zone = root / "sys/class/thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(f"{value}\n")
        (zone / "type").write_text(f"{kind}\n")
    for number, khz in enumerate(clocks):
        cpu = root / "sys/devices/system/cpu" / f"cpu{number}"
        (cpu / "cpufreq").mkdir(parents=True)
        if khz is not None:
            (cpu / "cpufreq" / "scaling_cur_freq").write_text(f"{khz}\n")
    return root


def test_all_that_the_kernel_shows(tmp_path):
    zones = ((41500, "cpu-0-0"), (398, "battery"), (37, "old phone"), (0, "off"), (-274000, "off"))
    seen = read(tree(tmp_path / "a root", zones, (1800000, None, 300000)))
    assert seen["temperature_c"] == {"0 cpu-0-0": 41.5, "1 battery": 39.8, "2 old phone": 37.0}
    assert seen["frequency_mhz"] == {"cpu0": 1800.0, "cpu2": 300.0}
    assert seen["cores"] == 3 and seen["machine"]


def test_a_board_is_called_by_its_name_and_not_by_its_architecture(tmp_path):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/cpuinfo").write_text("Hardware\t: BCM2835\n")
    board = read(tmp_path)
    assert board["cpu"] == "Raspberry Pi 4 Model B Rev 1.4"
    ran = {"cpu": "BCM2835", "machine": "aarch64"}  # what the runner knows
    assert state.around(ran, board, board)["cpu"] == board["cpu"]
    assert state.around(ran, {}, {})["cpu"] == "BCM2835"


def test_the_runner_calls_no_architecture_a_processor(tmp_path, monkeypatch):
    model = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    request = {
        "model": str(model), "threads": 1, "warmup_runs": 1, "min_runs": 1, "min_seconds": 0,
        "shapes": None,
    }  # fmt: skip
    assert runner.run(request)["cpu"]
    monkeypatch.setattr(runner, "cpu_name", lambda: runner.platform.machine())
    assert "cpu" not in runner.run(request)


def test_what_is_not_there_is_absent(tmp_path):
    assert read(tmp_path).keys() == {"machine"}
    assert state.read("") == state.read("zone\nclock\nmachine\nzone 1 hot x\nclock cpu0 -\n") == {}


def test_before_and_after_are_in_the_record_and_the_table(tmp_path, monkeypatch):
    root = tree(tmp_path / "root", ((41500, "cpu"), (50000, "gpu")), (2000000, 1000000))
    hot = f"echo 61000 >'{root}/sys/class/thermal/thermal_zone1/temp'"
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_default"), before=hot)
    here = state.script(str(root))
    monkeypatch.setattr(state, "script", lambda: here)
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    row = bench.benchmark(path, engine=bench.Engine(binary=binary))
    record = row.to_json()
    assert record["temperature_c_before"] == {"0 cpu": 41.5, "1 gpu": 50.0}
    assert record["temperature_c_after"] == {"0 cpu": 41.5, "1 gpu": 61.0}
    assert record["frequency_mhz_before"] == {"cpu0": 2000.0, "cpu1": 1000.0}
    assert row.table().endswith("temperature 50.0 °C to 61.0 °C, frequency 1500 MHz to 1500 MHz")


def test_nothing_told_is_said_and_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "script", lambda: "true")
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    row = bench.benchmark(path, min_runs=3, min_seconds=0)
    assert row.table().endswith("temperature not available, frequency not available")
    assert not [key for key in row.to_json() if key.startswith(("temperature", "frequency"))]


@pytest.mark.parametrize("seconds", (0.0, 0.2))
def test_it_rests_between_turns(seconds, monkeypatch):
    from tfeffi.bench import latency

    slept = []
    monkeypatch.setattr(latency.time, "sleep", slept.append)
    latency.interleaved(lambda path: path, ["a", "b"], 2, seconds)
    assert slept == [0.2] * 3 * (seconds > 0)
