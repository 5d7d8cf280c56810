"""Profiles in the folder of a run are in its report."""

import json

from tests.study import samples
from tests.study.test_roofline_picture import ADD, CONV, PROFILE
from tfeffi.study import runs
from tfeffi.study.page import page

WORST = [
    {"operator": "CONV_2D", "layers": ["conv<1>"], "lost_ms": 0.3, "advice": ["prune", "quantize"]},
    {"operator": "unmatched", "layers": [], "lost_ms": 0.0123, "advice": ["look around"]},
]


def test_profiles_are_drawn(tmp_path):
    folder = samples.run(tmp_path / "run")
    assert "Why is it slow?" not in page(runs.load([folder]))
    record = {**PROFILE, "rows": [CONV, ADD], "worst": WORST}
    (folder / "profile.json").write_text(json.dumps(record))
    (folder / "pruned" / "profile_int8.json").write_text(json.dumps(record))
    (folder / "profile_of_somebody.json").write_text('{"name": "me"}')
    study = runs.load([folder])
    assert [name for name, _ in study.profiles] == ["profile", "pruned/profile_int8"]
    text = page(study)
    assert text.count("data:image/svg+xml;base64,") == 2
    assert "conv&lt;1&gt;" in text and "prune; quantize" in text and "12.3 µs" in text


def test_what_cannot_be_drawn_is_said(tmp_path):
    folder = samples.run(tmp_path / "run")
    (folder / "profile_broken.json").write_text(json.dumps({"kind": PROFILE["kind"]}))
    empty = {**PROFILE, "rows": [{**CONV, "ms": 0.0}], "worst": []}
    (folder / "profile_empty.json").write_text(json.dumps(empty))
    text = page(runs.load([folder]))
    assert "The profile profile_broken cannot be read and is left out." in text
    assert "shorter than a microsecond" in text and "data:image" not in text
