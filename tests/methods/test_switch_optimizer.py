"""One optimizer, then another: what a switch to the same one leaves as it was, and what it changes."""

import keras
import numpy as np
import pytest

from tests.methods.every import network
from tests.train.cases import convnet, images
from tfeffi import methods
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train import Settings, fit, loop

SGD = {"name": "sgd", "momentum": 0.0}
MUON = {"name": "convolution_muon"}


def settings(**changes):
    return Settings(**{
        "epochs": 3, "batch_size": 32, "learning_rate": 0.1, "optimizer": SGD, "l2": 1e-3,
        "schedule": {"name": "constant"}, **changes,
    })  # fmt: skip


def switch(epoch=1, optimizer=SGD, learning_rate=0.1, **more):
    return methods.build(
        "switch_optimizer", epoch=epoch, optimizer=optimizer, learning_rate=learning_rate, **more
    )


class Watch(Method):
    """Which optimizer and l2 took the steps of each epoch; list it first."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, run):
        kind = type(run.optimizer).__name__
        self.seen.append((kind, run.settings.l2, int(run.optimizer.iterations)))


def trained(how, *chosen, model=None):
    keras.utils.set_random_seed(0)
    model = model or convnet()
    return fit(model, images(), settings=how, methods=chosen, verbose=False)


def assert_same_weights(one, other):
    for a, b in zip(one.model.weights, other.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "triangular"])
def test_without_momentum_a_switch_to_the_same_optimizer_changes_nothing(schedule):
    how = settings(schedule={"name": schedule})
    plain, both = trained(how), trained(how, switch(1), switch(2))
    assert_same_weights(plain, both)
    assert [row["learning_rate"] for row in plain.history] == [
        row["learning_rate"] for row in both.history
    ]


def test_a_switch_to_another_rate_is_a_step_of_the_rate():
    steps = {"name": "step", "milestones": (2,), "factor": 0.5}
    by_schedule = trained(settings(schedule=steps))
    assert_same_weights(by_schedule, trained(settings(), switch(2, learning_rate=0.05)))


def test_momentum_starts_anew():
    heavy = {"name": "sgd", "momentum": 0.9}
    how = settings(optimizer=heavy)
    plain, switched = trained(how), trained(how, switch(1, optimizer=heavy))
    assert plain.history[0]["loss"] == switched.history[0]["loss"]
    assert plain.history[1]["loss"] != switched.history[1]["loss"]


def test_optimizer_decay_and_the_count_of_its_own_steps():
    watch = Watch()
    made = trained(settings(), watch, switch(1, optimizer=MUON, learning_rate=0.02, l2=0.0))
    three = 96 // 32
    assert watch.seen == [
        ("SGD", 1e-3, three), ("ConvolutionMuon", 0.0, three), ("ConvolutionMuon", 0.0, 2 * three),
    ]  # fmt: skip
    rates = [row["learning_rate"] for row in made.history]
    assert rates == pytest.approx([0.1, 0.02, 0.02])


def test_adam_begins_with_its_first_step():
    """As long as its rate for every weight, where a correction for many steps would make it longer."""
    moved = []

    class FirstStep(Method):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                moved.extend(
                    np.abs(np.array(v) - b) for v, b in zip(run.model.weights, before, strict=True)
                )
            before[:] = [np.array(v) for v in run.model.weights]

    before = []
    how = settings(batch_size=96, epochs=2, l2=0.0)  # a step an epoch
    trained(how, FirstStep(), switch(1, optimizer={"name": "adam"}, learning_rate=0.01),
            model=convnet(norm=False))  # fmt: skip
    assert moved and max(m.max() for m in moved) == pytest.approx(0.01, rel=1e-3)


class Stop(Method):
    """Ends the process' part of a run after an epoch."""

    def __init__(self, after=None):
        self.after = after

    def on_epoch_end(self, run):
        if run.epoch == self.after:
            raise KeyboardInterrupt


def test_killed_after_two_switches_it_goes_on_bit_for_bit(tmp_path):
    def run(after, **where):
        first = switch(1, optimizer={"name": "adam"}, learning_rate=0.01, l2=0.0)
        then = switch(2, optimizer=MUON, learning_rate=0.02)
        keras.utils.set_random_seed(0)
        how = settings(epochs=4, checkpoint_seconds=0.0)
        return fit(
            convnet(),
            images(),
            settings=how,
            methods=[first, then, Stop(after)],
            verbose=False,
            **where,
        )

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(3, workdir=tmp_path)
    assert_same_weights(run(None, workdir=tmp_path), whole)


def test_used_for_a_second_run_it_begins_anew():
    once = switch(1, optimizer={"name": "adam"}, learning_rate=0.01)
    trained(settings(epochs=2), once)
    assert once.state() == {"done": True}
    run = loop.begin(convnet(), images(), None, settings(epochs=2), [once])
    assert once.state() == {"done": False} and run.settings.learning_rate != 0.01


@pytest.mark.parametrize("then", [MUON, {"name": "adam"}, {"name": "sgd", "momentum": 0.9}],
                         ids=lambda o: o["name"])  # fmt: skip
def test_momentum_correction_acts_on_sgd_only(then):
    """The rate is constant until the switch, and falls by a step behind it."""
    how = settings(
        optimizer={"name": "sgd", "momentum": 0.9},
        schedule={"name": "step", "milestones": (2,), "factor": 0.5},
    )
    turn = dict(optimizer=then, learning_rate=0.01)
    turned = trained(how, methods.build("momentum_correction"), switch(1, **turn))
    plain = trained(how, switch(1, **turn))
    alike = [
        np.array_equal(a, b) for a, b in zip(turned.model.weights, plain.model.weights, strict=True)
    ]
    assert not any(alike) if then["name"] == "sgd" else all(alike)


def test_the_settings_that_were_given_stay():
    how = settings()
    trained(how, switch(1, optimizer=MUON, l2=0.0))
    assert how == settings()


@pytest.mark.parametrize("first", ["prune", "switch"])
def test_channels_may_go_in_the_same_epoch(first):
    watch = Watch()
    prune = methods.build(
        "prune_train", ratio=0.2, interval=1, threshold=0.9, relative=True, stop=2
    )
    turn = switch(1, optimizer=MUON, learning_rate=0.02)
    both = [prune, turn] if first == "prune" else [turn, prune]
    model = network(norm=True)
    made = trained(settings(), watch, *both, model=model)
    assert made.model.count_params() < model.count_params()
    assert [kind for kind, *_ in watch.seen] == ["SGD", "ConvolutionMuon", "ConvolutionMuon"]
    assert np.isfinite(made.history[-1]["loss"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epoch": 0}, "epoch=0 must be a whole number of at least 1"),
        ({"epoch": True}, "epoch=True"),
        ({"optimizer": "sgd"}, "optimizer='sgd' must be a mapping"),
        ({"learning_rate": 0}, "learning_rate=0 must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be a number above 0"),
        ({"l2": -1.0}, "l2=-1.0 must be a number of 0 or more, or None"),
    ],
)
def test_bad_settings(wrong, words):
    with pytest.raises(BadInput, match=words):
        switch(**wrong)


def test_what_only_the_run_can_tell_is_told_before_the_first_step():
    with pytest.raises(BadInput, match="epoch=3 is not before the end of 3 epochs"):
        trained(settings(), switch(3))
    with pytest.raises(BadInput, match=r"rising epochs, not \[2, 1\]"):
        trained(settings(), switch(2), switch(1))
    with pytest.raises(BadInput, match=r'optimizer "moon" is not known; .*convolution_muon'):
        trained(settings(), switch(1, optimizer={"name": "moon"}))
    with pytest.raises(BadInput, match=r"convolution_muon: .*vector_rate=0"):
        trained(settings(), switch(1, optimizer={**MUON, "vector_rate": 0}))
