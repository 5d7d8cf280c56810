"""The picture of a profile."""

import json

import pytest

import tfeffi
from tfeffi.bench import profile_record
from tfeffi.study import roofline_picture

MACHINE = {
    "threads": 1, "peak_float32_gmacs_per_second": 50.0, "peak_int8_gmacs_per_second": 200.0,
    "bandwidth_gb_per_second": {"65536": 100.0, "1048576": 20.0},
}  # fmt: skip
CONV = {
    "operator": "CONV_2D", "layers": ["a" * 40, "b"], "kernels": ["k"], "ran": "XNNPACK",
    "dtype": "float32", "ms": 0.5, "mean_ms": 0.5, "share": 0.9, "least_ms": 0.2, "lost_ms": 0.3,
    "bound": "compute", "macs_per_byte": 9.0, "gmacs_per_second": 20.0,
}  # fmt: skip
ADD = {
    "operator": "ADD", "layers": [], "kernels": ["k"], "ran": "builtin", "dtype": "float32",
    "ms": 0.05, "mean_ms": 0.05, "share": 0.1, "lost_ms": 0.05, "macs_per_byte": 0.0,
}  # fmt: skip
PROFILE = {
    "kind": profile_record.KIND, "model": "folder/m.tflite", "ms": 0.6, "threads": 1,
    "machine": MACHINE, "rows": [CONV, ADD, {**CONV, "ms": 0.0}], "worst": [],
}  # fmt: skip


@pytest.mark.parametrize("suffix", (".png", ".svg"))
def test_it_is_drawn(tmp_path, suffix):
    path = tmp_path / f"roof{suffix}"
    roofline_picture.draw(PROFILE, path)
    assert path.stat().st_size > 5000
    again = tmp_path / f"again{suffix}"
    roofline_picture.draw(PROFILE, again)
    if suffix == ".png":
        assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("rows", ([ADD], [CONV], [CONV] * 30, [{**CONV, "dtype": "int8"}, ADD]))
def test_all_sorts_of_profiles_are_drawn(tmp_path, rows):
    roofline_picture.draw({**PROFILE, "rows": rows}, tmp_path / "roof.png")
    assert (tmp_path / "roof.png").exists()


def test_what_took_no_time_is_not_drawn(tmp_path):
    with pytest.raises(tfeffi.BadInput, match="shorter than a microsecond"):
        roofline_picture.draw({**PROFILE, "rows": [{**CONV, "ms": 0.0}]}, tmp_path / "roof.png")
    assert not (tmp_path / "roof.png").exists()


def test_profiles_are_told_from_other_files(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PROFILE))
    assert profile_record.read(path) == PROFILE
    for other in ("[1]", "{}", '{"kind": "other"}', "no json"):
        path.write_text(other)
        assert profile_record.read(path) is None
    assert profile_record.read(tmp_path / "none.json") is None
    path.write_text(json.dumps({**PROFILE, "worst": [{"operator": "ADD", "layers": []}]}))
    with pytest.raises(tfeffi.BadInput, match="has no advice, lost_ms"):
        profile_record.read(path)
    path.write_text(json.dumps({"kind": profile_record.KIND, "rows": []}))
    with pytest.raises(tfeffi.BadInput, match="has no machine, model, ms, threads, worst"):
        profile_record.read(path)
