"""Strategies side by side, whole, on a little of the embedded data: trainings in turns."""

import pathlib
import runpy
import time

import numpy as np
import pytest

from tests.train.cases import convnet, images
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.study import together
from tfeffi.study.experiments import run, strategies
from tfeffi.study.together import train_together
from tfeffi.train import Settings, fit

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
PRUNE = {
    "name": "prune_train", "ratio": 0.5, "interval": 1, "threshold": 0.85, "relative": True,
}  # fmt: skip
CONFIG = {
    "name": "prunetrain",
    "experiment": "strategies",
    "data": {"name": "fashion_mini", "train": "train[:128]", "test": "test[:50]"},
    "model": {"name": "mnist_classifier", "width_multiplier": 0.25},
    "train": {"epochs": 2, "batch_size": 32, "learning_rate": 0.05, "test_views": "flip"},
    "groups": {
        "small": {
            "seeds": (0,),
            "strategies": {"dense": {}, "pruned": {"methods": (PRUNE,)}},
        }
    },
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prunetrain")
    return folder, run(CONFIG, folder, verbose=False)


def test_what_is_removed_is_against_the_dense_run(measured):
    dense, pruned = measured[1].rows
    assert pruned["ratio_to"] == "dense" and "train_macs_removed_mean" not in dense
    share = 1 - pruned["train_macs_mean"] / dense["train_macs_mean"]
    assert pruned["train_macs_removed_mean"] == pytest.approx(share) and share > 0
    seconds = [row["train_seconds_mean"] for row in (dense, pruned)]
    assert pruned["train_seconds_removed_mean"] == pytest.approx(1 - seconds[1] / seconds[0])
    both = [row["train_seconds_mean"] + row["compile_seconds_mean"] for row in (dense, pruned)]
    assert pruned["all_seconds_removed_mean"] == pytest.approx(1 - both[1] / both[0])
    assert pruned["macs_removed_mean"] == pytest.approx(
        1 - pruned["macs_mean"] / dense["dense_macs_mean"]
    )
    assert all(0 < row["accuracy_one_view_mean"] <= 1 for row in (dense, pruned))
    difference = pruned["accuracy_mean"] - dense["accuracy_mean"]
    assert pruned["difference_mean"] == pytest.approx(difference)
    assert pruned["history"]["macs"][-1] == pruned["macs_mean"]
    assert all(len(row["history"]["validation_accuracy"]) == 2 for row in (dense, pruned))


def test_waiting_for_the_others_is_nobodys_time(monkeypatch):
    seen = []

    class Watch(Method):
        def on_epoch_end(self, run):
            seen.append(run.compile_seconds)

    monkeypatch.setattr(together, "_wait_for_turn", lambda: time.sleep(2.0))
    both, settings = [Watch(), together._Turns(str)], Settings(epochs=2, batch_size=32)
    fit(convnet(), images(), settings=settings, methods=both, verbose=False)
    assert 0 <= seen[1] - seen[0] < 1.0


def test_nothing_is_done_twice_and_it_draws(measured, tmp_path, monkeypatch):
    folder, result = measured
    trained = {path: path.stat().st_mtime_ns for path in folder.glob("trained/*/model.keras")}
    assert len(trained) == 2
    monkeypatch.setattr(strategies, "plan", None)  # what is all there is not begun either
    again = run(CONFIG, folder, verbose=False)
    assert again.rows == result.rows
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    result.rows[1:] = [{**result.rows[1], "name": f"pruned {number}"} for number in range(9)]
    strategies.draw(result, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


def test_a_part_may_be_measured_alone(tmp_path):
    config = flat(seeds=(0, 1), strategies={"plain": {"train": {"epochs": 1}}})
    (part,) = run({**config, "only": ("prunetrain seed 1",)}, tmp_path, verbose=False).rows
    (cell,) = tmp_path.glob("cells/*")
    before = cell.stat().st_mtime_ns
    (whole,) = run(config, tmp_path, verbose=False).rows
    assert (part["n"], whole["n"]) == (1, 2) and cell.stat().st_mtime_ns == before
    with pytest.raises(BadInput, match=r'there is no "prunetrain seed 7"; .*"prunetrain seed 0"'):
        run({**config, "only": ("prunetrain seed 7",)}, tmp_path, verbose=False)


def test_a_training_that_ends_early_is_named(capfd):
    with pytest.raises(BadInput, match='training "broken" ended with code 1'):
        train_together({"broken": {"seed": 0}}, say=lambda line: None)
    assert "KeyError" in capfd.readouterr().err


def test_a_training_that_dies_between_its_turns_is_named(monkeypatch):
    spec = {"seed": 0, **{key: CONFIG[key] for key in ("data", "model", "train")}, "methods": []}
    workers = []
    turn = together._Worker.turn

    def turn_or_die(worker):
        workers.append(worker)
        if len(workers) > 2:  # both have had an epoch
            workers[0]._process.kill()
            workers[0]._process.wait()
        return turn(worker)

    monkeypatch.setattr(together._Worker, "turn", turn_or_die)
    with pytest.raises(BadInput, match='training "one" ended with code -9'):
        train_together({"one": {**spec, "workdir": None}, "two": {**spec, "workdir": None}}, str)
    assert all(worker._process.poll() is not None for worker in workers)


def test_trainings_end_with_who_gives_the_turns():
    """A killed experiment leaves nobody behind who writes into its folders."""
    spec = {"seed": 0, **{key: CONFIG[key] for key in ("data", "model", "train")}, "methods": []}
    worker = together._Worker("one", {**spec, "workdir": None})
    assert "epoch 1" in worker.turn()["line"]
    worker._process.stdin.close()
    assert worker._process.wait(60) == 1 and not worker._process.stdout.read()
    worker._process.stdout.close()


def flat(**changes):
    base = {key: CONFIG[key] for key in ("name", "experiment", "data", "model", "train")}
    return {**base, "seeds": (0,), "strategies": {"plain": {}}} | changes


def test_without_groups_the_config_is_one(tmp_path):
    small = {"name": "resnet_cifar", "depth": 8, "width": 4}
    train = {"epochs": 1}
    strategies = {"plain": {"train": train}, "other": {"model": small, "train": train}}
    plain, other = run(flat(strategies=strategies), tmp_path, verbose=False).rows
    assert plain["group"] == other["group"] == "prunetrain" and plain["epochs"] == 1
    assert other["dense_params_mean"] != plain["dense_params_mean"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategies": {}}, '"prunetrain" needs "strategies" and "seeds"'),
        ({"seeds": ()}, '"prunetrain" needs "strategies" and "seeds"'),
        ({"strategies": {"a": {"modle": {}}}}, 'strategy "a": unknown key "modle"; .*"model"'),
        ({"model": {}}, "section model={} needs a"),
        ({"groups": {"one": {}}}, 'config: "seeds" beside "groups" is not read; put it into'),
        ({"epochs": 3}, 'config: unknown key "epochs"'),
        ({"strategies": {"a": {"train": {"seed": 3}}}}, 'strategy "a": config: train.seed=3'),
        ({"strategies": {"a": {"model": {"num_classes": 5}}}}, 'strategy "a": .*num_classes=10'),
        ({"strategies": {"a": {"train": {"epochs": 0}}}}, 'strategy "a": train setting epochs=0'),
        (
            {"strategies": {"a": {"train": {"early_stopping": 2}}}},
            "early_stopping would look at the test",
        ),
        (
            {"strategies": {"a": {"train": {"evaluate_every": 2}}}},
            "evaluate_every=2 .* after every epoch",
        ),
        ({"strategies": {"a": {"train": {"batch_size": 500}}}}, 'strategy "a": .*500'),
        (
            {"strategies": {"a": {"train": {"schedule": {"name": "cosin"}}}}},
            'strategy "a": .*cosin',
        ),
        ({"strategies": {"a": {"model": {"name": "resnot"}}}}, 'strategy "a": .*resnot'),
        (
            {"strategies": {"a": {"methods": ({"ratio": 0.2},)}}},
            'strategy "a": config: section methods=.* needs a "name"',
        ),
        (
            {"strategies": {"a": {"methods": ({"name": "prune_train", "ratio": 2},)}}},
            'strategy "a": prune_train: ratio=2',
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        run(flat(**changes), tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {n: {"seeds": (0,), "strategies": {"a": {}}} for n in ("one", "two")},
            'strategy "a" is in groups "one" and "two"',
        ),
        (
            {"one": {"seeds": (0,), "strategies": {"a": {}}, "train": {"epochs": 9}}},
            'config.groups: "one": unknown key "train"',
        ),
    ],
)
def test_groups_that_would_be_misread_are_refused(tmp_path, groups, message):
    with pytest.raises(BadInput, match=message):
        run({**CONFIG, "groups": groups}, tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["prunetrain", "prunetrain_resnet50", "prunetrain_choices", "pareto_cifar10"]
)
def test_every_training_of_the_configs_can_begin(name):
    """On a few images of noise; what they measure takes hours."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]().to_dict()
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), "uint8")
    planned = strategies.plan(config, Images.from_arrays(pixels, np.arange(2000) % 10))
    sections = config.get("groups") or {config["name"]: config}
    for group, specs in planned.items():
        assert list(specs) == list(sections[group]["strategies"]) and len(specs) >= 2
