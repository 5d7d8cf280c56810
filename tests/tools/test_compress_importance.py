"""tfeffi-compress --method=prune: what decides which channels go, from the command line."""

import json

import keras
import pytest

from tests.surgery.drawn import randomize
from tests.tools import many
from tfeffi import models

FEW = ["--dataset=fashion_mini", "--split=train[:200]", "--measured_images=100"]
GOOD = {
    "taylor": ["mnist", "--importance=taylor", "--normalization=max", *FEW],
    "fisher": ["mnist", "--importance=fisher", "--per=macs", "--loss=self", "--seed=3", *FEW],
    "median": ["mnist", "--importance=geometric_median", "--scope=layer", "--multiple_of=1"],
    "lasso": ["mnist", "--importance=group_lasso", "--reduction=max", "--per=params"],
    "random": ["mnist", "--importance=random", "--seed=5"],
    "inexact": ["normalized", "--importance=l2", "--inexact"],
}
CHOSEN = {
    "taylor": {"normalization": "max", "loss": "cross_entropy", "reduction": None},
    "fisher": {"normalization": "none", "per": "macs", "loss": "self", "seed": 3},
    "median": {"importance": "geometric_median", "scope": "layer", "reduction": "mean"},
    "lasso": {"importance": "group_lasso", "reduction": "max", "per": "params"},
    "random": {"seed": 5, "scope": "global"},
    "inexact": {"importance": "l2"},
}
BAD = [
    (["--importance=fishr"], 'no importance "fishr"; did you mean "fisher"'),
    (["--importance=fisher"], '"fisher" is measured on data'),
    (["--importance=l2", "--reduction=average"], 'no reduction "average"; known: first, max'),
    (["--importance=l2", "--normalization=lmap"], 'no normalization "lmap"; did you mean "lamp"'),
    (["--importance=l2", "--loss=self"], 'importance "l2" has no loss'),
    (["--importance=l2", "--per=bytes"], 'per="bytes" is no cost; known: macs, params'),
    (["--importance=l2", "--scope=layers"], "--scope"),
    (["--importance=taylor", "--loss=selfie", *FEW], 'no loss "selfie"; did you mean "self"'),
    (["--importance=l2", "--model={}/normalized.keras"], "no channel of the model may go"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("importance")
    size = {"input_shape": (28, 28, 1), "num_classes": 10, "width_multiplier": 0.5}
    mnist = models.build("mnist_classifier", **size)
    randomize(mnist, 0)
    mnist.save(folder / "mnist.keras")
    x = keras.layers.Dense(32, name="a")(image := keras.Input((16,)))
    x = keras.layers.Dense(4)(keras.layers.LayerNormalization(name="norm")(x))
    keras.Model(image, x).save(folder / "normalized.keras")
    return folder


@pytest.fixture(scope="module")
def ran(folder):
    usual = ["--method=prune", "--budget_macs=0.6"]
    good = [
        [f"--model={folder}/{words[0]}.keras", f"--output={folder}/{name}_small.keras", *usual,
         *words[1:]]
        for name, words in GOOD.items()
    ]  # fmt: skip
    bad = [
        [f"--model={folder}/mnist.keras", f"--output={folder}/new.keras", *usual,
         *(word.format(folder) for word in words)]
        for words, _ in BAD
    ]  # fmt: skip
    return many.run("compress", good + bad)


@pytest.mark.parametrize("name", GOOD)
def test_the_report_says_what_was_chosen(folder, ran, name):
    code, out, err = ran[list(GOOD).index(name)]
    assert code == 0, err
    report = json.loads((folder / f"{name}_small.json").read_text())
    settings = report["settings"]
    assert {key: settings[key] for key in CHOSEN[name]} == CHOSEN[name]
    assert report["after"]["macs"] <= 0.6 * report["before"]["macs"] and report["changed"]
    if name == "inexact":
        assert "norm" in settings["inexact"] and report["note"] in out


@pytest.mark.parametrize("number", range(len(BAD)), ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_gets_one_line_and_exit_code_2(folder, ran, number):
    code, out, err = ran[len(GOOD) + number]
    assert code == 2 and BAD[number][1] in err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in out + err
    assert not (folder / "new.keras").exists()
