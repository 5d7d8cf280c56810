"""The limits of a machine, and the files that they are measured on."""

import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

import tfeffi
from tfeffi.bench import roofline, roofline_files
from tfeffi.bench.roofline import Machine
from tfeffi.export import flatbuffer, operators

MACHINE = Machine(1, {"float32": 1e9, "int8": 4e9}, {1000: 1e9, 100_000: 5e8})


def opened(content):
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def test_a_convolution_computes_what_it_says(tmp_path):
    (tmp_path / "c.tflite").write_bytes(roofline_files.convolution(5, 7, 1, 3, "float32"))
    interpreter = opened((tmp_path / "c.tflite").read_bytes())
    image = np.random.default_rng(1).standard_normal((1, 3, 3, 5), np.float32)
    random = np.random.default_rng(0)
    weights = random.standard_normal((7, 1, 1, 5), np.float32)
    bias = random.standard_normal(7, np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, image @ weights[:, 0, 0].T + bias, rtol=1e-5, atol=1e-5)
    (one,) = operators.read(tmp_path / "c.tflite")
    assert (one.macs, one.weight_bytes) == (9 * 35, 4 * (35 + 7))


@pytest.mark.parametrize("dtype", roofline_files.DTYPES)
@pytest.mark.parametrize("depthwise", (False, True))
def test_convolutions_run_in_both_types(tmp_path, dtype, depthwise):
    path = tmp_path / "c.tflite"
    path.write_bytes(roofline_files.convolution(6, 6, 3, 4, dtype, depthwise=depthwise))
    contents = flatbuffer.inspect(path)
    assert contents.operators == {"DEPTHWISE_CONV_2D" if depthwise else "CONV_2D": 1}
    assert contents.inputs[0].dtype == contents.outputs[0].dtype == dtype
    interpreter = opened(path.read_bytes())
    interpreter.invoke()
    (one,) = operators.read(path)
    assert one.macs == 16 * 9 * 6 * (1 if depthwise else 6)


def test_copies_move_what_they_say(tmp_path):
    path = tmp_path / "c.tflite"
    path.write_bytes(roofline_files.copies(100, 5))
    found = operators.read(path)
    assert [one.kind for one in found] == ["ABS", "NEG", "ABS", "NEG", "ABS"]
    assert all(one.bytes == 800 and one.macs == 0 for one in found)
    interpreter = opened(path.read_bytes())
    interpreter.set_tensor(0, np.full((1, 100), -3, np.float32))
    interpreter.invoke()
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 0] == 3


def test_a_convolution_of_another_type_is_refused():
    with pytest.raises(tfeffi.BadInput, match='dtype "int16"'):
        roofline_files.convolution(4, 4, 3, 4, "int16")


def test_the_limits_come_from_the_fastest_runs():
    times = {"float32 64 3 56": 10.0, "float32 128 1 56": 1.0, "int8 64 3 56": 1.0}
    times |= {"copy 1000": 1.0, "copy 2000": 0.5, "copy 4000": 4.0}
    found = roofline.machine(times, threads=2)
    assert found.threads == 2
    assert found.macs_per_second["int8"] == pytest.approx(1e3 * (64 * 3 * 56) ** 2)
    assert found.macs_per_second["float32"] == pytest.approx(1e3 * (128 * 56) ** 2)
    many = roofline.OPERATORS
    assert found.bytes_per_second == pytest.approx(  # a smaller one is never slower
        {1000: 1e3 * many * 2000 / 0.5, 2000: 1e3 * many * 2000 / 0.5, 4000: 1e3 * many * 4000 / 4}
    )
    with pytest.raises(tfeffi.BadInput, match="too coarse"):
        roofline.machine({**times, "copy 1000": 0.0}, 1)


def test_every_file_of_the_limits_is_written(tmp_path):
    paths = roofline.write_files(tmp_path)
    assert len(paths) == 2 * len(roofline.CONVOLUTIONS) + len(roofline.COPIES)
    machine = roofline.machine(dict.fromkeys(paths, 1.0), 1)
    for name, path in paths.items():
        macs = sum(one.macs for one in operators.read(path))
        moved = {one.bytes for one in operators.read(path)}
        kind, *numbers = name.split()
        if kind == "copy":
            assert moved == {int(numbers[0])}
        else:
            assert macs == int(np.prod([int(n) for n in numbers])) ** 2
    assert machine.peak("int8") == machine.peak("float32") > 0


@given(st.integers(0, 10**9), st.integers(1, 10**7), st.sampled_from(["float32", "int8", "int16"]))
def test_a_roof_is_the_lower_of_two(macs, moved, dtype):
    least = MACHINE.least_ms(macs, moved, dtype)
    compute = 1e3 * macs / MACHINE.peak(dtype)
    memory = 1e3 * moved / MACHINE.bandwidth(moved)
    assert least == pytest.approx(max(compute, memory))
    assert MACHINE.bound(macs, moved, dtype) == ("compute" if compute > memory else "memory")
    if macs:
        attainable = MACHINE.attainable(macs / moved, moved, dtype)
        assert least == pytest.approx(1e3 * macs / attainable)


def test_the_bandwidth_is_that_of_what_fits():
    assert [MACHINE.bandwidth(moved) for moved in (1, 1000, 99_999, 100_000, 10**9)] == [
        1e9, 1e9, 1e9, 5e8, 5e8,
    ]  # fmt: skip
    assert "int8 4 GMAC/s" in MACHINE.text() and MACHINE.to_json()["threads"] == 1


def test_the_limits_do_not_load_tensorflow():
    code = "import sys; from tfeffi.bench import roofline; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
