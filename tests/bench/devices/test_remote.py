"""Devices behind a real adbd and a real sshd: what they share. The device is this machine.

LiteRT is real too. Google's benchmark_model is in no registry: a stand-in replays a recorded output.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import tfeffi
from tests.bench.devices import delegates, standin
from tests.bench.devices.daemons import engine
from tests.bench.devices.test_native_output import sample
from tests.export import handmade
from tfeffi import bench
from tfeffi.bench.engine import mask
from tfeffi.export import ModelError

QUICK = {"min_runs": 20, "min_seconds": 0.0, "warmup_runs": 2}


def test_files_are_measured_there_in_turns(phone, model, tmp_path):
    large = handmade.relu(tmp_path / "large.tflite", shape=(1, 256, 256, 16))
    rows = bench.compare(
        [large, model], device=phone.device, threads=2, rounds=2, engine=engine(phone), **QUICK
    ).rows
    assert [row.device for row in rows] == [phone.device] * 2
    assert rows[1].ratio_high < 0.5 and rows[1].ratio_to == str(large)
    assert rows[0].runs == 20 and rows[0].rounds == 2
    assert 0 < rows[0].min_ms <= rows[0].p50_ms <= rows[0].p90_ms <= rows[0].max_ms
    assert rows[0].engine.startswith("LiteRT ") and rows[0].machine == os.uname().machine
    assert rows[0].cores == os.cpu_count() and rows[0].peak_memory_mb > 20


def test_several_devices_are_one_table(phone, model):
    other = handmade.relu(phone.folder_there.parent / "n.tflite", shape=(1, 9))
    measured = bench.compare(
        [model, other], device=["host", phone.device], rounds=2, engine=engine(phone), **QUICK
    )
    assert [row.device for row in measured.rows] == ["host"] * 2 + [phone.device] * 2
    assert [row.ratio_to for row in measured.rows] == [str(model)] * 4
    table = measured.table().splitlines()
    assert table[0].startswith("device") and len(table) == 1 + 4 + 2
    assert table[5].startswith("host, 1 thread") and table[6].startswith(phone.device)
    with pytest.raises(tfeffi.BadInput, match="each once"):
        bench.compare([model], device=["host", "host"])


def test_a_native_program_is_brought_and_its_files_are_known_by_content(phone, model, tmp_path):
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_default"))
    how = {"device": phone.device, "engine": engine(phone, binary=binary), **QUICK}
    row = bench.benchmark(model, **how)
    assert (
        row.mean_ms == pytest.approx(1.85119)
        and row.engine == "benchmark_model"
        and row.p50_ms is None
    )
    assert standin.saw(binary, model)
    size = model.stat().st_size
    handmade.relu(model, shape=(1, 4, 12, 4))  # trained anew: the same name, the same size
    assert model.stat().st_size == size and not standin.saw(binary, model)
    bench.benchmark(model, **how)
    assert standin.saw(binary, model)


def test_processors_and_delegates_there(phone, model, tmp_path):
    first = str(min(os.sched_getaffinity(0)))
    told = standin.write(
        tmp_path / "benchmark_model",
        sample("x86_default"),
        before=f"taskset -p $$ >'{tmp_path}/mask'",
    )
    how = engine(phone, binary=told, cpu_affinity=first)
    row = bench.benchmark(model, device=phone.device, engine=how, **QUICK)
    assert (tmp_path / "mask").read_text().split()[-1] == mask([int(first)])
    assert row.cpu_affinity == first
    brought = delegates.make(tmp_path, nodes=1)
    how = engine(phone, cpu_affinity=first, xnnpack=False, external_delegate=brought)
    row = bench.benchmark(model, device=phone.device, engine=how, **QUICK)
    assert row.delegated == "completely"
    assert pathlib.Path(f"{brought}.used").read_text().startswith(str(phone.folder_there))
    for how, line in (
        ({"cpu_affinity": "4096"}, f"asks for processor 4096, {phone.device} has"),
        ({"external_delegate": "/no/such.so"}, "the delegate /no/such.so does not load"),
        ({"gpu": True}, "gpu needs the native program"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            bench.benchmark(model, device=phone.device, engine=engine(phone, **how), **QUICK)


@pytest.mark.parametrize(
    ("make", "line"),
    (
        (handmade.aborting, "made LiteRT abort .SIGSEGV"),
        (handmade.with_custom_operator, 'needs the custom operator "Landmarks"'),
    ),
)
def test_a_model_that_cannot_run_there(phone, tmp_path, make, line):
    path = tmp_path / "m.tflite"
    make(path)
    with pytest.raises(ModelError, match=line):
        bench.benchmark(path, device=phone.device, engine=engine(phone), **QUICK)


def test_the_tool_prints_a_table_or_one_line(phone, model, tmp_path):
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_opprof_peakmem"))
    other = handmade.relu(tmp_path / "n.tflite", shape=(1, 9))
    command = [
        sys.executable, "-m", "tfeffi.tools.benchmark", f"--model={model},{other}",
        f"--device={phone.device}", f"--benchmark_binary={binary}", "--rounds=2",
        f"--device_folder={phone.folder_there}", f"--output={tmp_path / 'out.json'}",
        "--cooldown_seconds=0.1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.3844" in done.stdout and phone.device in done.stdout.splitlines()[-1]
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["rounds"] for row in rows] == [2, 2] and "p50_ms" not in rows[0]
    shutil.rmtree(phone.folder_there)
    phone.folder_there.write_text("a file in its place")
    done = subprocess.run(
        [*command[:-2], f"--output={tmp_path / 'no.json'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "has no place for a folder" in done.stderr and not (tmp_path / "no.json").exists()
    phone.folder_there.unlink()
    phone.folder_there.mkdir()
