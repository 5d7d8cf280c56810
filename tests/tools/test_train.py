"""tfeffi-train and tfeffi-sweep as their users run them."""

import json

import pytest

from tests.tools import many

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict({{
        "name": "tiny",
        "replicates": 2,
        "data": {{"name": "fashion_mini", "train": "train[:200]", "test": "test[:100]"}},
        "model": {{"name": "mnist_classifier", "width_multiplier": 0.25}},
        "train": {{"epochs": 1, "batch_size": 50, "precision": "float32"}},
        {more}
    }})
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every case, run in one process: name -> (code, out, err), and the folder."""
    folder = tmp_path_factory.mktemp("train")

    def write(name, more="", change=("", "")):
        (folder / f"{name}.py").write_text(CONFIG.format(more=more).replace(*change))

    write("tiny")
    write("variants", '"variants": {"float32": {"export": {}}},', ('"replicates": 2,', ""))
    write("typo_in_a_section", change=('"model"', '"modle"'))
    write(
        "no_model", change=('"model": {"name": "mnist_classifier", "width_multiplier": 0.25},', "")
    )
    write("no_data", change=("fashion_mini", "fashon_mini"))
    write("unknown_method", '"methods": [{"name": "prunetrain"}],')
    (folder / "raises.py").write_text("def get_config():\n    return {}['x']\n")
    (folder / "refuses.py").write_text(
        "from tfeffi import BadInput\ndef get_config():\n    raise BadInput('config: no such net')\n"
    )
    (folder / "syntax.py").write_text("def get_config(:\n")
    train = {
        "good": ["tiny"],
        "again": ["tiny"],
        "other settings, same folder": ["tiny", "--config.train.epochs=2"],
        "typo in a key": ["tiny", "--config.train.epoch=2"],
        "not a number": ["tiny", "--config.train.epochs=many"],
        "no precision": ["tiny", "--config.train.precision=float8"],
        "typo in a section": ["typo_in_a_section"],
        "no model": ["no_model"],
        "a key the file has not": ["tiny", "--config.train.early_stopping=3"],
        "not a mapping": ["tiny", "--config.train.optimizer=sgd"],
        "no data": ["no_data"],
        "no architecture": ["tiny", "--config.model.name=mnist_clasifier"],
        "no method": ["unknown_method"],
        "raises": ["raises"],
        "refuses": ["refuses"],
        "syntax": ["syntax"],
        "missing": ["missing"],
        "extra": ["tiny", "extra"],
    }
    cases = [
        [f"--config={folder / name}.py", f"--workdir={folder / 'run'}", *rest]
        for name, *rest in train.values()
    ]
    found = dict(zip(train, many.run("train", [*cases, []]), strict=False))
    sweep = [[f"--config={folder / name}.py", f"--workdir={folder / 'sweep'}"]
             for name in ("tiny", "variants")]  # fmt: skip
    found |= dict(zip(("no variants", "one variant"), many.run("sweep", sweep), strict=True))
    return found, folder


def test_a_config_becomes_a_row_with_its_spread(runs):
    found, folder = runs
    assert found["good"][0] == 0, found["good"]
    row = json.loads((folder / "run" / "result.json").read_text())["rows"][0]
    assert row["name"] == "tiny" and row["n"] == 2 and row["epochs"] == 1
    assert 0 <= row["accuracy_mean"] <= 1 and row["accuracy_std"] >= 0
    assert row["train_seconds_mean"] > 0 and row["compile_seconds_mean"] > 0
    assert row["dataset"] == "fashion_mini test[:100]"
    assert row["weight_bytes"] == 4 * row["params"] and "bytes" not in row  # no file was shipped
    assert row["params"] > 0 and row["macs"] > 0 and row["train_macs"] == 3 * 200 * row["macs"]
    for replicate in ("replicate_0", "replicate_1"):
        assert (folder / "run" / replicate / "model.keras").exists()
    assert found["again"][0] == 0
    assert "epoch" not in found["again"][2]  # nothing was trained again


def test_a_sweep_writes_its_page(runs):
    found, folder = runs
    assert found["one variant"][0] == 0, found["one variant"]
    assert "float32" in (folder / "sweep" / "report.html").read_text()


def test_a_sweep_over_strategies_trains_each_seed_once(tmp_path):
    strategies = "'experiment': 'strategies', 'seeds': (0, 1), 'strategies': {'a': {}, 'b': {}},"
    config = CONFIG.format(more=strategies).replace('"replicates": 2,', "")
    (tmp_path / "tiny.py").write_text(config)
    sweep = [f"--config={tmp_path / 'tiny.py'}", f"--workdir={tmp_path / 'many'}"]
    (code, out, err), again = many.run("sweep", [sweep] * 2)
    assert code == again[0] == 0, (err, again)
    assert "tiny seed 1: " in out and "tiny seed" not in again[1]
    rows = json.loads((tmp_path / "many" / "result.json").read_text())["rows"]
    assert [(row["name"], row["n"]) for row in rows] == [("a", 2), ("b", 2)]
    assert "training MACs" in (tmp_path / "many" / "report.html").read_text()


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other settings, same folder", "its epochs is 1"),
        ("typo in a key", '"epochs"'),
        ("not a number", "many"),
        ("no precision", '"mixed_float16"'),
        ("no model", 'section "model" is missing'),
        ("typo in a section", 'did you mean "model"'),
        ("a key the file has not", "early_stopping"),
        ("not a mapping", "optimizer"),
        ("no data", '"fashion_mini"'),
        ("no architecture", '"mnist_classifier"'),
        ("no method", '"prunetrain"'),
        ("raises", "x"),
        ("refuses", "tfeffi-train: config: no such net"),
        ("syntax", "syntax.py"),
        ("missing", "missing.py"),
        ("extra", '"extra"'),
        ("no variants", "no variants"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(runs, case, words):
    code, _, err = runs[0][case]
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("tfeffi-"), err
    assert words in lines[0]
