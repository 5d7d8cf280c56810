"""What every method must do: train, survive a kill, other precisions, replicas, export; and its card."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import tfeffi
from tests.methods.every import CASES, make, numbers, start, train
from tests.train.cases import images
from tests.train.test_resume import assert_same_run
from tfeffi import methods
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train import loop

EVERY = sorted(CASES)
ROOM = pathlib.Path(methods.__file__).parent
HEADINGS = (
    "## How to use", "## Hyperparameters", "## What it did here", "## When it did not help",
    "## Source",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """Each method's training in float32, made when it is first asked for."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = train(name, start(name))
        return made[name]

    return of


def weights(model):
    return [np.asarray(w) for w in model.weights]


def assert_trained(made, before):
    rows = made.history
    assert len(rows) == 2 and all(np.isfinite(row["loss"]) for row in rows)
    after = weights(made.model)
    assert all(np.isfinite(w).all() for w in after)
    assert any(
        old.shape != new.shape or (old != new).any() for old, new in zip(before, after, strict=True)
    )


def test_the_table_has_a_line_for_every_folder():
    assert {name.split(",")[0] for name in CASES} == set(methods.names())


@pytest.mark.parametrize("name", EVERY)
def test_it_trains(name, trained):
    made, before = trained(name), start(name)
    assert_trained(made, weights(before))
    assert (made.model.count_params() < before.count_params()) == CASES[name].smaller


@pytest.mark.parametrize("name", EVERY)
def test_it_makes_a_difference(name, trained):
    with_it, without = trained(name), train(name, start(name), acts=False)
    assert numbers(with_it) != numbers(without)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", EVERY)
def test_it_trains_in_mixed_precision(name, precision, monkeypatch):
    seen, original = set(), loop.step.build

    def look(run):
        seen.update(layer.compute_dtype for layer in run.model.layers)
        return original(run)

    monkeypatch.setattr(loop.step, "build", look)
    model = start(name, norm=True)
    made = train(name, model, precision)
    assert precision.removeprefix("mixed_") in seen
    assert_trained(made, weights(model))
    assert (made.model.count_params() < model.count_params()) == CASES[name].smaller


@pytest.mark.parametrize("step", [2, 3])  # each before it is kept: within an epoch, between two
@pytest.mark.parametrize("name", EVERY)
def test_a_run_stopped_in_the_middle_goes_on_bit_for_bit(
    name, step, trained, tmp_path, monkeypatch
):
    original, left = loop.CompiledStep.__call__, [step]

    def step_then_stop(self, *batch):
        original(self, *batch)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(loop.CompiledStep, "__call__", step_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train(name, start(name), workdir=tmp_path)
    assert (tmp_path / "checkpoint.npz").exists()
    assert_same_run(train(name, start(name), workdir=tmp_path), trained(name))


def test_two_replicas_take_the_steps_of_one(trained):
    done = subprocess.run(
        [sys.executable, "-m", "tests.methods.every"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(CASES)
    for name, two in found.items():
        assert two == pytest.approx(numbers(trained(name)), rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("name", EVERY)
def test_what_it_trained_exports(name, trained, tmp_path):
    exported = tfeffi.export(trained(name).model, tmp_path / "m.tflite")
    assert exported.relative_difference < 1e-4


@pytest.mark.parametrize("name", EVERY)
def test_bad_settings_are_one_clear_line(name):
    bad, name = CASES[name].bad, name.split(",")[0]
    with pytest.raises(BadInput, match=f'^method {name}: unknown setting "nonsense"; .+') as told:
        methods.build(name, nonsense=1)
    assert "\n" not in str(told.value)
    if bad:
        settings, words = bad
        with pytest.raises(BadInput, match=f"{name}: .*{re.escape(words)}") as told:
            methods.build(name, **settings)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", methods.names())
def test_it_has_a_card(name):
    text = (ROOM / name / "README.md").read_text()
    assert re.match(r"# \S.*\n\n\S", text)
    assert tuple(re.findall(r"^## .*$", text, re.M)) == HEADINGS
    _, did = text.split("## What it did here\n")
    figures = did.split("\n## ")[0]
    assert "<!-- table: " in figures  # tests/study/test_readme.py holds it against results/


# ---------------------------------------------------------------- two at once


@pytest.mark.parametrize("name", methods.names())
def test_those_it_excludes_exist_and_say_why(name):
    assert make(name).name == name
    for other, why in make(name).excludes().items():
        assert other in methods.names() and why
        with pytest.raises(BadInput, match=f"{name} and {other} exclude each other: {why}"):
            methods.check_together([make(name), make(other)])
        with pytest.raises(BadInput, match=r"exclude each other: .*; leave one out"):
            methods.check_together([make(other), Method(), make(name)])


@pytest.mark.parametrize(
    "pair", [("keep_zeros", "prune_train"), ("shared_weights", "net2net"), ("batch_growth",) * 2]
)
def test_fit_takes_no_two_that_exclude_each_other(pair):
    model = start(pair[0])
    with pytest.raises(BadInput, match=f"{pair[0]} and {pair[1]} exclude each other: .+"):
        loop.fit(
            model, images(40), settings=loop.Settings(batch_size=16),
            methods=[make(name) for name in pair], verbose=False,
        )  # fmt: skip


def test_a_memory_budget_excludes_a_batch_that_another_method_sets():
    budget = methods.build("prune_train", memory_bytes=2**30)
    with pytest.raises(
        BadInput, match="prune_train and batch_growth exclude each other: each sets"
    ):
        methods.check_together([budget, make("batch_growth")])
    methods.check_together([make("prune_train"), make("batch_growth")])


def test_those_that_exclude_nobody_go_together():
    methods.check_together([make("momentum_correction"), make("keep_zeros"), Method(), Method()])


def test_an_unknown_method_lists_near_ones():
    with pytest.raises(BadInput, match=r'"prunetrain" is not known; did you mean .*"prune_train"'):
        methods.build("prunetrain")
    with pytest.raises(BadInput, match=r'method "zzz" is not known; known: batch_growth, .*'):
        methods.build("zzz")


def test_a_setting_that_is_missing_is_named():
    with pytest.raises(BadInput, match=r"method progressive_resizing: missing .*'sizes'"):
        methods.build("progressive_resizing")
