"""Devices behind a real adbd and a real sshd: what they share. The device is this machine.

LiteRT is real too. Google's benchmark_model is in no registry: a stand-in replays a recorded output.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import pytest

import tfeffi
from tests.bench.devices import daemons, standin
from tests.bench.devices.test_native import foreign
from tests.bench.devices.test_native_output import sample
from tests.export import handmade
from tfeffi import bench
from tfeffi.export import ModelError

QUICK = {"min_runs": 20, "min_seconds": 0.0, "warmup_runs": 2}
SLOW = {"min_runs": 10, "min_seconds": 300.0}


@pytest.fixture(scope="module", params=("adb", "ssh"))
def server(request):
    """One of the two, and how its device is called; the clients find it by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "adb":
            server = daemons.Room()
            patch.setenv("ADB_SERVER_SOCKET", server.address)
            serial = server.start()
            server.device, server.vanish = f"adb:{serial}", lambda: server.kill(serial)
            server.restart = lambda: server.start(serial)
        else:
            server = daemons.Sshd()
            patch.setenv("PATH", f"{server.path}:{os.environ['PATH']}")
            server.device, server.vanish = "ssh:board", server.break_off
            server.restart = lambda: None
        try:
            yield server
        finally:
            server.close()


@pytest.fixture
def phone(server, tmp_path):
    """The device with a folder of its own, in which nothing may be left."""
    place = tmp_path / "on the device"
    place.mkdir()
    server.folder_there = place
    yield server
    daemons.wait_for(lambda: not list(place.iterdir()))


@pytest.fixture
def model(tmp_path):
    return handmade.relu(tmp_path / "m.tflite", shape=(1, 8, 8, 3))


@pytest.fixture
def endless(tmp_path):
    """So large that not even a million runs are done in time."""
    return handmade.relu(tmp_path / "endless.tflite", shape=(1, 512, 512, 8))


def engine(phone, **how):
    """With this environment's Python, unless a binary is given."""
    if not how.get("binary"):
        how.setdefault("python", sys.executable)
    return bench.Engine(folder=str(phone.folder_there), **how)


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
    row = bench.benchmark(
        model, device=phone.device, engine=engine(phone, cpu_affinity=first, xnnpack=False), **QUICK
    )
    assert row.cpu_affinity == first
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


def without(folder, *missing):
    """A Python that lacks packages."""
    import numpy

    packages = folder / "packages"
    packages.mkdir()
    if "numpy" not in missing:
        for path in (numpy.__path__[0], f"{numpy.__path__[0]}.libs"):
            os.symlink(path, packages / os.path.basename(path))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("missing", "line"),
    (
        (("numpy",), "has no numpy: pip install ai-edge-litert there"),
        (("ai_edge_litert",), "has no ai_edge_litert: pip install"),
    ),
)
def test_a_python_without_packages(phone, model, tmp_path, missing, line):
    python = without(tmp_path, *missing)
    with pytest.raises(tfeffi.BadInput, match=line):
        bench.benchmark(model, device=phone.device, engine=engine(phone, python=python), **QUICK)


def test_no_python_and_no_program(phone, model, tmp_path):
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    other = {"x86_64": 183, "aarch64": 62}.get(os.uname().machine, 243)
    for how, line in (
        (
            {"python": "no-python"},
            f'{phone.device} has no Python "no-python"; name it with device_pyt',
        ),
        ({"binary": foreign(tmp_path / "foreign", other)}, f"is built for .*, {phone.device} is"),
        ({"binary": tmp_path / "script"}, f'"script" is not a program for {phone.device}'),
        ({"binary": tmp_path / "no"}, "there is no benchmark binary"),
    ):
        with pytest.raises(tfeffi.BadInput, match=line):
            bench.benchmark(model, device=phone.device, engine=engine(phone, **how), **QUICK)


def test_a_gpu_that_was_not_used_is_a_failure(phone, model, tmp_path):
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_err_badflag"))
    with pytest.raises(ModelError, match=f"on {phone.device} does not know --use_gpu=true"):
        bench.benchmark(model, device=phone.device, engine=engine(phone, binary=binary, gpu=True))


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small tmpfs with options; it is gone in the end."""
    mounted = []

    def mount(options):
        place = tmp_path / "mounted"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tfeffi", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the kernel lets nobody mount a tmpfs here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(server, mounted, tmp_path):
    place = mounted("size=64k")
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8))
    path.write_bytes(path.read_bytes() + bytes(200_000))
    with pytest.raises(tfeffi.BadInput, match=r'is full: ".*m.tflite" .0\.2 MB. does not fit'):
        bench.benchmark(
            path,
            device=server.device,
            engine=bench.Engine(python=sys.executable, folder=str(place)),
        )
    daemons.wait_for(lambda: not list(place.iterdir()))


def test_a_folder_that_forbids_writing_or_running(server, mounted, model, tmp_path):
    with pytest.raises(tfeffi.BadInput, match=r"has no place for a folder of ours.*device_folder"):
        bench.benchmark(model, device=server.device, engine=bench.Engine(folder="/proc"))
    place = mounted("noexec")
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_default"))
    with pytest.raises(tfeffi.BadInput, match=r'may not run "benchmark_model".*device_folder'):
        bench.benchmark(
            model, device=server.device, engine=bench.Engine(binary=binary, folder=str(place))
        )
    daemons.wait_for(lambda: not list(place.iterdir()))


def running(phone):
    """The runners of ours that are at work on the device, which is this machine."""
    found = []
    for command in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = command.read_text().split("\0")
            if words[:2] == [sys.executable, "-B"] and str(phone.folder_there) in words[2]:
                found.append(command.parent.name)
    return found


def test_a_time_limit_ends_the_process_there(phone, endless):
    with pytest.raises(ModelError, match=r"did not finish within 3 s on"):
        bench.benchmark(endless, device=phone.device, timeout=3, engine=engine(phone), **SLOW)
    daemons.wait_for(lambda: not running(phone))


def test_a_device_that_vanishes_in_mid_run_leaves_nothing(phone, endless):
    def leave():
        daemons.wait_for(lambda: running(phone))
        phone.vanish()

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        with pytest.raises(tfeffi.BadInput, match=f"went away; {phone.device}: .*connect") as told:
            bench.benchmark(endless, device=phone.device, engine=engine(phone), **SLOW)
        assert "\n" not in str(told.value)
        daemons.wait_for(lambda: not list(phone.folder_there.iterdir()))
        daemons.wait_for(lambda: not running(phone))
    finally:
        thread.join()
        phone.restart()
    assert bench.benchmark(endless, device=phone.device, engine=engine(phone), **QUICK).runs == 20


def test_a_tool_that_is_killed_leaves_nothing_there(phone, endless):
    command = [
        sys.executable, "-m", "tfeffi.tools.benchmark", f"--model={endless}", "--min_seconds=300",
        f"--device={phone.device}", f"--device_python={sys.executable}",
        f"--device_folder={phone.folder_there}",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="t") as here:  # what is killed cannot remove its own
        tool = subprocess.Popen(
            command, env={**os.environ, "TMPDIR": here}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            daemons.wait_for(lambda: running(phone))
        finally:
            tool.kill()
            tool.wait()
        daemons.wait_for(lambda: not running(phone))
    daemons.wait_for(lambda: not list(phone.folder_there.iterdir()))


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
