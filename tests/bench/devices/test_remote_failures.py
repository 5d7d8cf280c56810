"""What goes wrong on a device behind a real adbd or sshd: one line each, and nothing is left there."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import pytest

import tfeffi
from tests.bench.devices import daemons, standin
from tests.bench.devices.daemons import engine
from tests.bench.devices.test_native import foreign
from tests.bench.devices.test_native_output import sample
from tests.export import handmade
from tfeffi import bench
from tfeffi.export import ModelError

QUICK = {"min_runs": 20, "min_seconds": 0.0, "warmup_runs": 2}
SLOW = {"min_runs": 10, "min_seconds": 300.0}


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
    none = tmp_path / "no" / "such folder"
    with pytest.raises(tfeffi.BadInput, match=r"has no place for a folder of ours.*device_folder"):
        bench.benchmark(model, device=server.device, engine=bench.Engine(folder=str(none)))
    assert not none.parent.exists()
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
