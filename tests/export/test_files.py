"""What is read from a .tflite, what runs it, and what happens with files nobody should be given."""

import io
import types
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tfeffi
from tfeffi.export import (
    ExportError,
    ModelError,
    calibration,
    contract,
    execute,
    litert,
    plan,
    recipes,
    steps,
)
from tfeffi.export.flatbuffer import Tensor, inspect, zip_bytes

from . import handmade


@pytest.fixture(scope="session")
def exported(saved, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "m.tflite"
    tfeffi.export(saved, path)
    return path


def test_inspect_reads_what_a_hand_wrote(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 8, 8, 3), signature=(-1, 8, 8, 3))
    contents = inspect(path)
    assert contents.operators == {"RELU": 1} and contents.custom == ()
    assert contents.inputs == (Tensor("in", "float32", (None, 8, 8, 3)),)
    assert contents.float_operators == ("RELU",)
    assert contents.activation_bytes == 2 * 4 * 8 * 8 * 3  # what it reads and what it writes


def test_zip_bytes_is_what_a_zip_holds(exported):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(exported)
    held = zip_bytes(exported)
    assert 0 < len(archive.getvalue()) - held < 1000  # the archive's own directory
    assert held < exported.stat().st_size


@given(cut=st.integers(0, 100_000), where=st.integers(0, 100_000), byte=st.integers(0, 255))
@example(cut=0, where=0, byte=0)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_gives_a_line_or_its_contents(exported, tmp_path, cut, where, byte):
    content = bytearray(exported.read_bytes())[: 8 + cut]
    content[where % len(content)] = byte
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    try:
        inspect(path)
    except ModelError as error:
        assert "\n" not in str(error) and "damaged.tflite" in str(error)


def test_run_is_what_the_file_computes(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(2, 3))
    given_rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)  # no multiple of 2
    (output,) = litert.run(path, given_rows).values()
    np.testing.assert_array_equal(output, np.maximum(given_rows, 0))
    open_batch = handmade.relu(tmp_path / "open.tflite", shape=(1, 3), signature=(-1, 3))
    (output,) = litert.run(open_batch, given_rows, batch_size=4).values()
    np.testing.assert_array_equal(output, np.maximum(given_rows, 0))


@pytest.mark.parametrize(
    ("make", "line"),
    (
        (handmade.aborting, "made LiteRT abort .SIGSEGV"),
        (handmade.with_custom_operator, 'needs the custom operator "Landmarks"'),
        (lambda path: handmade.with_custom_operator(path, b"FlexErf"), 'operator "FlexErf", which'),
        (lambda path: path.write_text("this is not a model"), "is not a .tflite file"),
        (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 50), "damaged or cut short"),
        (lambda path: path, "there is no model file"),
    ),
)
def test_what_cannot_run_gives_a_line_and_this_process_lives(tmp_path, make, line):
    make(tmp_path / "m.tflite")
    with pytest.raises(ModelError, match=line) as caught:
        litert.run(tmp_path / "m.tflite", np.zeros((1,), np.float32))
    assert "\n" not in str(caught.value)


def test_run_refuses_other_shapes_and_waits_no_longer_than_told(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 3))
    with pytest.raises(ModelError, match=r"takes the shape \[1, 3\], given was \[1, 4\]"):
        litert.run(path, np.zeros((2, 4), np.float32))
    with pytest.raises(ModelError, match=r"did not finish within 0\.01 s"):
        litert.run(path, np.zeros((2, 3), np.float32), timeout=0.01)


def test_an_export_with_custom_operators_is_refused(tmp_path):
    path = handmade.with_custom_operator(tmp_path / "m.tflite", b"FlexErf")
    with pytest.raises(ExportError, match="needs FlexErf, which are not builtin"):
        contract.check_structure(path, None, False)


def test_an_int8_export_must_be_integer(tmp_path):
    path = handmade.relu(tmp_path / "m.tflite", shape=(1, 3))
    with pytest.raises(ExportError, match="RELU would still compute in floating point"):
        contract.check_structure(path, "int8", False)
    contract.check_structure(path, None, False)


@given(
    scale=st.floats(1e-4, 10), zero_point=st.integers(-128, 127),
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
)  # fmt: skip
def test_stored_values_come_back_within_half_a_step(scale, zero_point, values):
    detail = {"quantization": (scale, zero_point), "dtype": np.int8}
    values = np.asarray(values, np.float32)
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    again = execute.real(execute.stored(values, detail), detail)
    assert np.abs(again - np.clip(values, low, high)).max() <= 0.5001 * scale + 1e-4


@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_calibration_batches_are_full_and_miss_no_image(n, size):
    images = np.arange(n)
    batches = list(calibration.batches(images, size))
    assert {len(batch) for batch in batches} == {size}
    np.testing.assert_array_equal(np.concatenate(batches)[:n], images)
    assert len(batches) == -(-n // size)


@pytest.mark.parametrize(
    ("reference", "got", "difference", "relative", "agreement"),
    (
        ([[1.0, 4.0], [2.0, 0.0]], [[1.0, 3.0], [2.0, 0.5]], 1.0, 0.25, 1.0),
        ([[1.0, 4.0], [2.0, 0.0]], [[5.0, 4.0], [2.0, 0.0]], 4.0, 1.0, 0.5),
        ([[0.0], [0.0]], [[0.0], [0.1]], 0.1, 0.1, None),
    ),
)
def test_parity_is_measured(reference, got, difference, relative, agreement):
    parity = contract.compare([np.array(reference)], [np.array(got)])
    assert parity.max_difference == pytest.approx(difference)
    assert parity.relative_difference == pytest.approx(relative)
    assert parity.top1_agreement == agreement


def judged(relative, agreement, quantize="int8", tolerance=None, min_agreement=None, planned=()):
    parity = contract.Parity(100, relative, relative, agreement)
    try:
        contract.check_parity(parity, quantize, tolerance, min_agreement, planned)
    except ExportError:
        return False
    return True


def test_parity_is_judged():
    assert judged(0.5, 0.95)  # far in numbers, but the classes are right
    assert not judged(0.001, 0.45)  # near in numbers, by an offset common to all outputs
    assert judged(0.1, 0.5, min_agreement=0.0) and not judged(0.5, 0.5, min_agreement=0.0)
    assert not judged(0.5, None) and judged(0.1, None)
    assert not judged(0.1, 0.95, min_agreement=0.96) and judged(0.9, 0.97, min_agreement=0.96)
    assert judged(0.1, 0.85, min_agreement=0.8) and not judged(0.5, 0.85, min_agreement=0.8)
    assert not judged(0.1, 0.99, tolerance=0.05) and judged(0.04, 0.95, tolerance=0.05)
    assert not judged(0.04, 0.2, tolerance=0.05)
    assert judged(0.04, 0.2, tolerance=0.05, min_agreement=0.1)
    assert not judged(0.01, 1.0, quantize=None) and judged(1e-6, 0.5, quantize=None)
    assert judged(0.2, 0.95, "float16") and judged(0.02, 0.5, "float16")
    assert not judged(0.2, 0.5, "float16")


def test_by_layer_the_loosest_recipe_in_use_holds():
    def judged_by(names, *numbers):
        step = steps.Step("CONV_2D", ("t",), None, None, None, (), (), ())
        planned = [plan.Planned(step, recipes.RECIPES.get(name)) for name in names]
        return judged(*numbers, quantize=recipes.MIXED, planned=planned)

    assert judged_by(["float32"], 1e-6, None) and not judged_by(["float32"], 0.01, None)
    assert not judged_by(["float32"], 0.01, 1.0)  # as without a recipe
    assert judged_by(["float32", "float16"], 0.04, 0.5)
    assert not judged_by(["float32", "float16"], 0.2, 0.5)
    assert judged_by(["dynamic_int8", "weights_int4"], 0.4, 0.5)
    assert not judged_by(["dynamic_int8", "float16"], 0.4, 0.5)
    assert not judged_by(["float32", "static_int8"], 0.001, 0.45)


@pytest.mark.parametrize("kind", ("array", "Images"))
def test_calibration_of_sorted_images_sees_all_classes(kind):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 317)  # sorted by class, as files often are
    stored = labels[:, None, None, None] * np.ones((2, 2, 1), np.uint8)
    given_images = {
        "array": stored, "Images": types.SimpleNamespace(images=stored, split="train"),
    }[kind]  # fmt: skip
    found = calibration.images(given_images, shape=(2, 2, 1), value_range=None)
    scale = 255 if kind == "Images" else 1
    counts = np.bincount(np.rint(found[:, 0, 0, 0] * scale).astype(int), minlength=10)
    assert counts.sum() == calibration.MOST_IMAGES
    assert counts.min() >= 99 and counts.max() <= 101


@given(count=st.integers(0, 500), most=st.integers(1, 300))
def test_a_spread_is_even(count, most):
    rows = calibration.spread(count, most)
    assert len(rows) == min(count, most)
    assert len(set(rows)) == len(rows) and all(0 <= row < count for row in rows)
    gaps = np.diff([*rows, count])
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
