"""One front of training time, multiply-adds and accuracy: every strategy of cheaper training on CIFAR-10.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-sweep --config=configs/pareto_cifar10.py --config.train.precision=mixed_bfloat16 \\
        --workdir=runs/pareto_cifar10
    tfeffi-experiment --config=configs/pareto_cifar10.py --config.train.precision=mixed_bfloat16 \\
        --workdir=runs/pareto_cifar10 --output=results/pareto_cifar10.json

What: ResNet-8 with one recipe for five epochs, and from there with one strategy each: bfloat16, large
batches by two rules, momentum correction, ghost batches, steps of the rate, a growing batch, small images
first, PruneTrain, Net2Net, both, label smoothing, look-ahead, Muon; then the sprint's network and recipe,
shortened, and without its whitened patches. All images, crops and alternating flips. The strategies of a
group train side by side, an epoch in turn, seed by seed. Test accuracy at the end, of one view; nothing
is stopped by it. The two ratios of PruneTrain were settled after trials of the first seed, scored by it.

Why: a method pays if its point is not below and right of another's. Each has its paper, this is one page.

Source: the question is that of Buehler 2020, chapter 3; each method's card names its own.

Cost: seventy minutes on two cores with AMX. A process for each row of a group, all at once: peaks of 1.5
to 3 GB for each of fifteen, and of 4 GB for each of the sprint's three. Nothing is done twice. Without
bfloat16 in the CPU leave the precision at float32.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

SPRINT = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10_sprint.py")))
EPOCHS = 5
PRUNE = {
    "name": "prune_train", "ratio": 0.9, "interval": 1 / 8, "start": 0, "variant": "proximal",
    "weighting": "macs", "coupled": True, "multiple_of": 8, "target": 0.5, "stop": 4,
}  # fmt: skip
GROW = {"name": "net2net", "epochs": (2,), "widen": 2.0}
SIZES = {"name": "progressive_resizing", "sizes": ((0, 16), (2, 24), (4, 32))}


def ordered(values):
    """In the order written: the first strategy is what the others are held against."""
    return ConfigDict(values, sort_keys=False)


def sprint(epochs, sizes, *whitening):
    """The sprint's own network and recipe, for some epochs."""
    whole = SPRINT["get_config"]().to_dict()
    growing = {"name": "progressive_resizing", "sizes": sizes}
    own = {"test_views": "one", "l2": 0.0, "batch_norm_momentum": None}
    train = {**whole["train"], "epochs": epochs, **own}
    train.pop("precision", None)  # that of the others
    return {"model": whole["model"], "train": train, "methods": (*whitening, growing)}


def group(strategies):
    """What trains side by side, seed by seed."""
    return {"seeds": (0, 1), "strategies": ordered(strategies)}


def of_resnet():
    """What is changed in the common recipe, by name."""
    large = {"batch_size": 1024, "scale_learning_rate": {"reference_batch": 128, "rule": "sqrt"}}
    linear = {
        "batch_size": 1024,
        "scale_learning_rate": {"reference_batch": 128, "rule": "linear"},
        "schedule": {"name": "triangular", "peak_at": 0.2, "warmup_epochs": 1},
    }
    muon = {"name": "convolution_muon", "vector_rate": 1.0, "matrix_rate": 1.0}
    decays = {"name": "step", "milestones": (3, 4), "factor": 0.2, "warmup_epochs": 1}
    small = {"model": {"width": 8}}
    return {
        "float32": {"train": {"precision": "float32"}},
        "bfloat16": {"train": {"precision": "mixed_bfloat16"}},
        "batch of 1024": {"train": large},
        "batch of 1024, linear rule": {"train": linear},
        "momentum correction": {"train": linear, "methods": ({"name": "momentum_correction"},)},
        "ghost batches": {"train": {**large, "ghost_batch": 128}},
        "steps of the rate": {"train": {"schedule": decays}},
        "growing batch": {
            "train": {"schedule": decays},
            "methods": ({"name": "batch_growth"},),
        },
        "progressive resizing": {"methods": (SIZES,)},
        "PruneTrain": {"methods": (PRUNE,)},
        "Net2Net": {**small, "methods": (GROW,)},
        "Net2Net and PruneTrain": {**small, "methods": (GROW, PRUNE | {"ratio": 0.6})},
        "label smoothing": {"train": {"label_smoothing": 0.1}},
        "look-ahead": {"methods": ({"name": "look_ahead"},)},
        "Muon": {"train": {"optimizer": muon, "learning_rate": 0.05, "l2": 0.0}},
    }


def of_sprint():
    """The sprint in fewer epochs, by name."""
    whitening = SPRINT["WHITENING"]
    return {
        "sprint, 5 epochs": sprint(5, ((0, 20), (2, 24), (3, 32)), whitening),
        "sprint, 3 epochs": sprint(3, ((0, 20), (1, 24), (2, 32)), whitening),
        "sprint, 3 epochs, no whitening": sprint(3, ((0, 20), (1, 24), (2, 32))),
    }


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "pareto_cifar10",
            "experiment": "strategies",
            "only": (),
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "model": {"name": "resnet_cifar", "depth": 8},
            "train": {
                "epochs": EPOCHS,
                "batch_size": 128,
                "learning_rate": 0.15,
                "schedule": {"name": "triangular", "peak_at": 0.2},
                "precision": "float32",
                "l2": 5e-4,
                "batch_norm_momentum": 0.97,  # for 128; its eighth power for 1024, 48 steps an epoch
                "augment": {"crop": 2, "flip": "alternate"},
            },
            "groups": ordered(
                {"ResNet-8": group(of_resnet()), "sprint": group(of_sprint())}
            ),
        }
    )  # fmt: skip
