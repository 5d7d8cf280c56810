"""What the committed results say of keras.applications and of the speed of surgery."""

import pathlib

import keras
import pytest

from benchmarks import applications, surgery_speed
from tfeffi.study.results import Result

RESULTS = pathlib.Path(__file__).parents[2] / "results"


def rows(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not measured yet")
    return {row["name"]: row for row in Result.read(path).rows}


def test_all_of_keras_applications_are_there_and_pass():
    found = rows("applications")
    assert list(found) == applications.names()
    assert [name for name, row in found.items() if row["passed"] is not True] == []


@pytest.mark.parametrize("key, limit", [("gap", 1e-5), ("load_gap", 1e-5), ("tflite_gap", 1e-4)])
def test_the_differences_are_rounding(key, limit):
    assert max(row[key] for row in rows("applications").values()) <= limit


def test_the_oracle_would_see_one_wrong_channel():
    for name, row in rows("applications").items():
        for key in ("one_wrong_channel", "variation"):
            assert row[key] >= max(10 * row["gap"], 1e-6), name


def test_half_of_what_is_free_went_and_only_convnext_keeps_much():
    for name, row in rows("applications").items():
        assert row["channels"] - row["channels_after"] == row["removed_channels"], name
        free = (1 - row["pinned_share"]) * row["channels"]
        assert 0.45 * free <= row["removed_channels"] <= 0.5 * free + 0.5, name
        pinned_outputs = 1000 / row["channels"]
        if not name.startswith("ConvNeXt"):
            assert row["pinned_share"] == pytest.approx(pinned_outputs), name
        assert row["params_after"] < 0.65 * row["params"], name
        assert row["macs_after"] < 0.65 * row["macs"], name


def test_sizes_are_the_default_ones():
    for name, row in rows("applications").items():
        own = applications.SIZES.get(name)
        assert own is None or row["image_size"] == own
    assert rows("applications")["EfficientNetB7"]["image_size"] == 600
    assert rows("applications")["ResNet50"]["params"] == 25_636_712


def test_surgery_takes_seconds():
    for name, row in rows("surgery_speed").items():
        assert row["seconds"] <= row["goal_seconds"], name


def test_the_timed_models_are_the_largest():
    found = rows("applications")
    most = [max(found, key=lambda name: found[name][key]) for key in ("params", "layers")]
    assert most == list(surgery_speed.LARGEST)
    assert all(hasattr(keras.applications, name) for name in most)


def test_both_prune_the_same_network_to_about_the_same_size():
    found = rows("surgery_speed")
    ours, theirs = found[surgery_speed.OURS], found[surgery_speed.THEIRS]
    assert ours["trained_params"] == theirs["trained_params"] == 25_557_032
    ratio = ours["trained_params_after"] / theirs["trained_params_after"]
    assert 0.99 <= ratio <= 1.01
