"""The schema: what may be written can be read back, and what may not is refused with its reason."""

import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study import samples
from tfeffi.errors import BadInput
from tfeffi.study import machine
from tfeffi.study.results import Result, ResultError, hardware, versions

ROOT = pathlib.Path(__file__).parents[2]
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True).filter(
    lambda key: key not in ("name", "accuracy", "accuracy_mean", "self")
)
SCALARS = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8).filter(lambda text: text.isprintable()),
    st.booleans(),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
ROWS = st.dictionaries(
    st.text("abcß", min_size=1, max_size=4), st.dictionaries(KEYS, VALUES), max_size=4
)


@given(rows=ROWS)
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    result = Result.new("any", "python x.py")
    for name, row in rows.items():
        result.add_row(name=name, **row)
    path = tmp_path_factory.mktemp("results") / "result.json"
    result.write(path)
    assert Result.read(path) == result
    assert [row["name"] for row in Result.read(path).rows] == list(rows)


def test_the_file_holds_the_schema_and_nothing_that_was_not_measured(tmp_path):
    result = samples.result()
    result.commit = None
    result.write(tmp_path / "result.json")
    value = json.loads((tmp_path / "result.json").read_text())
    assert list(value) == ["name", "command", "date", "hardware", "versions", "rows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value["date"])
    assert value["rows"][0]["bytes"] == 1_320_000
    assert "zip_bytes" not in value["rows"][0]


def test_numpy_scalars_become_numbers():
    row = Result.new("x").add_row(name="a", p50_ms=np.float32(0.5), n=np.int64(3), ok=np.True_)
    assert row == {"name": "a", "p50_ms": 0.5, "n": 3, "ok": True}
    assert [type(v) for v in row.values()] == [str, float, int, bool]


def test_a_row_of_the_same_name_takes_the_place_of_the_old_one():
    result = samples.result()
    result.add_row(name="int8", p50_ms=9.0)
    assert [row["name"] for row in result.rows] == [row[0] for row in samples.VARIANTS]
    assert result.row("int8") == {"name": "int8", "p50_ms": 9.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"p50_ms": None}, "p50_ms is None; a key that was not measured is left out"),
        ({"p50_ms": math.nan}, "p50_ms is nan"),
        ({"p50_ms": np.float64("inf")}, "p50_ms is inf"),
        ({"seeds_ms": [1.0, None]}, r"seeds_ms\[1\] is None"),
        ({"per_layer": {"conv": math.nan}}, "per_layer.conv is nan"),
        ({"times_ms": np.zeros(2)}, "times_ms is a ndarray"),
        ({"accuracy_mean": 91.3}, "accuracy_mean=91.3 must be a fraction between 0 and 1"),
        ({"accuracy": True}, "must be a fraction"),
        ({"P50 (ms)": 1.0}, "lower case with underscores"),
    ],
)
def test_a_row_that_breaks_the_schema_is_refused_with_its_name_and_key(row, message):
    result = Result.new("x")
    with pytest.raises(ResultError, match=f'row "a": .*{message}'):
        result.add_row(name="a", **row)
    assert result.rows == []


def test_a_row_without_a_name_is_refused():
    with pytest.raises(ResultError, match="needs a name"):
        Result.new("x").add_row(name=" ")


def test_an_unknown_row_is_answered_with_the_near_ones():
    with pytest.raises(ResultError, match='no row "int9"; did you mean "int8"'):
        samples.result().row("int9")


def broken(**change):
    value = samples.result().to_json() | change
    return {key: v for key, v in value.items() if v != "absent"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('{"name": "x", ', "is not JSON"),
        ("[]", "a result is a JSON object, not a list"),
        (broken(rows="absent"), 'key "rows" is missing'),
        (broken(rows={}), 'key "rows" must be a list, not a dict'),
        (broken(date=None), 'key "date" must be a string, not null'),
        (broken(hardware={"cpu": "x"}), 'key "hardware.cores" is missing'),
        (broken(hardware={"cpu": 1}), 'key "hardware.cpu" must be a string'),
        (broken(comit="abc"), 'unknown key "comit"; did you mean "commit"'),
        (broken(rows=[{"name": "a"}, {}]), r'rows\[1\] must be an object with a "name"'),
        (broken(rows=[{"name": "a"}, {"name": "a"}]), r'rows\[1\]: there are two rows "a"'),
        (broken(rows=[{"name": "a", "p50_ms": None}]), 'row "a": p50_ms is None'),
        ('{"rows": [{"name": "a", "p50_ms": NaN}]}', "key"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_says_where(tmp_path, content, message):
    path = tmp_path / "result.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ResultError, match=message) as caught:
        Result.read(path)
    assert str(caught.value).startswith(f'"{path}"')
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Result.read(tmp_path / "none.json")
    with pytest.raises(BadInput, match="cannot be read"):
        Result.read(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        Result.read(tmp_path / "binary.json")


def test_nothing_broken_is_written(tmp_path):
    result = samples.result()
    result.rows.append({"name": "late", "p50_ms": None})
    with pytest.raises(ResultError, match="p50_ms is None"):
        result.write(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == []


def test_hardware_and_versions_say_what_ran():
    found = hardware()
    assert found["cpu"] and found["accelerator"]
    assert found["cores"] >= 1
    assert 0.1 < found["memory_gb"] < 100_000
    assert set(found["cpu_features"]) <= set(machine.CPU_FEATURES)
    assert versions()["numpy"] == np.__version__
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_commit_is_that_of_the_source_or_absent():
    found = machine.commit()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode:
        assert found is None
    else:
        assert found.removesuffix("-dirty") == head.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["{here}/measure.py", "--output={here}/out/a.json"],
            "python measure.py --output=out/a.json",
        ),
        (["measure.py", "--runs=/far/away/a,/far/away/b"], "python measure.py --runs=a,b"),
        (["-m", "measure", "two words"], "python -m measure 'two words'"),
    ],
)
def test_the_command_is_as_typed_without_absolute_paths(tmp_path, arguments, command):
    source = "from tfeffi.study import machine; print(machine.command())"
    (tmp_path / "measure.py").write_text(source)
    typed = [argument.format(here=tmp_path) for argument in arguments]
    done = subprocess.run(
        [sys.executable, *typed], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == command


def test_relative_paths_and_addresses_stay():
    text = "tfeffi-train --config=configs/a.py https://example.org/x/y ../b"
    assert machine.without_paths(text) == text
