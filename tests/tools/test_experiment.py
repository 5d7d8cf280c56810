"""tfeffi-experiment as its users run it."""

import json

import pytest

from tests.tools import many

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict({
        "name": "tiny",
        "experiment": "strategies",
        "data": {"name": "fashion_mini", "train": "train[:64]", "test": "test[:50]"},
        "model": {"name": "mnist_classifier", "width_multiplier": 0.125},
        "train": {"epochs": 1, "batch_size": 32, "precision": "float32"},
        "seeds": (0,),
        "strategies": {"plain": {}},
    })
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every case, run in one process: name -> (code, out, err), and the folder."""
    folder = tmp_path_factory.mktemp("experiment")
    changed = {
        "tiny": ("", ""),
        "nameless": ('"name": "tiny",', ""),
        "other": ('"tiny"', '"other"'),
        "unknown": ('"strategies",', '"strategys",'),
        "no_train": ('"train": {"epochs": 1, "batch_size": 32, "precision": "float32"},', ""),
        "no_picture": ('"strategies",', '"sprint",'),
    }
    for name, change in changed.items():
        (folder / f"{name}.py").write_text(CONFIG.replace(*change))
    output = f"--output={folder / 'tiny.json'}"
    cases = {
        "good": ["tiny", output, f"--figure={folder / 'tiny.png'}"],
        "again": ["tiny", output],
        **{name: [name] for name in ("nameless", "unknown", "no_train")},
        "another's result": ["other", output],
        "no picture": ["no_picture", f"--figure={folder / 'no.png'}"],
    }
    found = many.run("experiment", [
        [f"--config={folder / name}.py", f"--workdir={folder / 'run'}", *rest]
        for name, *rest in cases.values()
    ])  # fmt: skip
    return dict(zip(cases, found, strict=True)), folder


def test_rows_and_picture_are_written_and_nothing_is_trained_twice(ran):
    found, folder = ran
    assert found["good"][0] == found["again"][0] == 0, found
    (row,) = json.loads((folder / "tiny.json").read_text())["rows"]
    assert row["name"] == "plain" and (folder / "tiny.png").read_bytes()[1:4] == b"PNG"
    assert "tiny seed 0" in found["good"][1] and "tiny seed 0" not in found["again"][1]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("nameless", 'give it a "name"'),
        ("unknown", 'no experiment "strategys"; did you mean "strategies"'),
        ("no_train", 'section "train" is missing'),
        ("another's result", "is the result of another experiment"),
        ("no picture", 'experiment "sprint" has no picture'),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(ran, case, words):
    code, _, err = ran[0][case]
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert code == 2 and line.startswith("tfeffi-experiment: ") and words in line
