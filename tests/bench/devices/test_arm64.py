"""A trained network computes the same on an (emulated) ARM64 processor; for parity, never for time."""

import os
import pathlib
import platform
import shlex
import subprocess

import keras
import numpy as np
import pytest

import tfeffi
from tests.bench.devices import daemons
from tfeffi.export import flatbuffer, litert

pytestmark = pytest.mark.slow
IMAGES = 20
CORES = (
    "cortex-a53",
    "cortex-a76",
)  # without and with the dot product of eight bits: other kernels


@pytest.fixture(scope="module")
def arm64(tmp_path_factory):
    """A Python on an ARM64 processor of a kind: a program that stands for `python3`."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    root = pathlib.Path(os.environ.get("TFEFFI_ARM64") or pathlib.Path(home) / "tfeffi" / "arm64")
    qemu, python = root / "usr/bin/qemu-aarch64", root / "arm64/usr/bin/python3.11"
    if not qemu.exists() or not python.exists():
        pytest.skip("there is no emulated ARM64: tests/bench/devices/get_arm64.sh unpacks one")
    folder = tmp_path_factory.mktemp("bin")

    def make(core):
        words = [
            qemu, "-cpu", core, "-L", root / "arm64", "-E", f"PYTHONHOME={root / 'arm64/usr'}",
            "-E", f"PYTHONPATH={root / 'site'}", python,
        ]  # fmt: skip
        program = folder / core
        program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
        program.chmod(0o755)
        return program

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network after an epoch on Fashion-MNIST, exported in several ways; and images."""
    folder = tmp_path_factory.mktemp("trained")
    keras.utils.set_random_seed(0)
    images = tfeffi.data.load("fashion_mini", "train[:2000]")
    x = image = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.Conv2D(32, 1, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    settings = tfeffi.train.Settings(epochs=2, batch_size=50, learning_rate=0.05)
    model = tfeffi.train.fit(model, images, settings=settings, verbose=False).model
    for name in (None, "dynamic", "int8"):
        calibration = images if name == "int8" else None
        tfeffi.export(model, folder / f"{name}.tflite", quantize=name, calibration=calibration)
    return folder, images.images[:IMAGES].astype("float32") / 255


def there(python, path, images, monkeypatch):
    """What the model says on that processor."""
    monkeypatch.setattr(litert.sys, "executable", str(python))
    return next(iter(litert.run(path, images, threads=1).values()))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", (None, "dynamic", "int8"))
def test_the_same_answers_on_arm64(arm64, trained, kind, core, monkeypatch):
    if platform.machine() != "x86_64":
        pytest.skip("the other side of the comparison is an x86 processor")
    folder, images = trained
    path = folder / f"{kind}.tflite"
    here = next(iter(litert.run(path, images, threads=1).values()))
    answers = there(arm64(core), path, images, monkeypatch)
    assert np.ptp(here, axis=0).max() > 1  # it learned something: not the same for all
    if kind == "int8":
        output = flatbuffer.inspect(path).outputs[0]
        step = output.scale or np.abs(np.diff(np.unique(here))).min()
        assert np.abs(answers - here).max() <= 1.001 * step
    else:
        assert np.abs(answers - here).max() <= 1e-6 * np.abs(here).max()


def test_a_device_with_such_a_processor_is_measured(arm64, trained, tmp_path):
    """Through a real sshd: the file of results says what it ran on. Its times mean nothing."""
    server = daemons.Sshd()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{server.path}:{os.environ['PATH']}")
            engine = tfeffi.bench.Engine(python=str(arm64("cortex-a76")), folder=str(tmp_path))
            row = tfeffi.bench.benchmark(
                trained[0] / "int8.tflite", device="ssh:board", engine=engine, warmup_runs=1,
                min_runs=5, min_seconds=0.0,
            )  # fmt: skip
    finally:
        server.close()
    assert row.machine == "aarch64" and row.runs == 5


def test_the_processors_are_what_they_say(arm64):
    code = "import platform; print(platform.machine())"
    for core in CORES:
        done = subprocess.run([arm64(core), "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "aarch64"
