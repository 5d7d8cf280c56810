"""What two parts of the sprint do to its accuracy, and what other methods would do on top of it.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/cifar10_sprint_parts.py --output=results/cifar10_sprint_parts.json

What: configs/cifar10_sprint.py in five epochs, with one view of a test image, and one thing changed at a
time. What others would add: PruneTrain, at a ratio that takes channels; half the filters until Net2Net
doubles them; a rate that falls in steps, and a batch that grows in its place; look-ahead. What it has:
images of full size throughout, in three epochs, which take a little less; the first convolution not
whitened. Two seeds.

Why: the record has each of its parts for a reason that was measured on a GPU, with other neighbours.

Source: as configs/cifar10_sprint.py; the methods' cards name theirs.

Cost: 2.5 minutes a training on two cores with AMX, sixteen trainings, 8 GB of memory for the growing
batch. What is shown is accuracy and multiply-adds, whatever else the machine does meanwhile:
`--config.seed=1 --config.replicates=1 --config.ablation_replicates=1` trains the other seed beside it.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

SPRINT = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10_sprint.py")))
WHITENING = SPRINT["WHITENING"]
GROWING = {"name": "progressive_resizing", "sizes": ((0, 20), (2, 24), (3, 32))}
PRUNE = {
    "name": "prune_train", "ratio": 0.99, "interval": 0.5, "start": 0, "variant": "proximal",
    "weighting": "macs", "multiple_of": 32, "target": 0.6, "stop": 3,
}  # fmt: skip
CONVOLUTIONS = [f"block{block}_{number}_conv" for block in (1, 2, 3) for number in (1, 2)]
STEPS = {"name": "step", "milestones": (2, 4), "factor": 0.4}


def parts():
    """What is changed, by name."""
    both = (WHITENING, GROWING)
    grow = {"name": "net2net", "epochs": (2,), "widen": dict.fromkeys(CONVOLUTIONS, 2.0)}
    growing = {"name": "batch_growth", "max_batch": 4000}  # images that memory has room for
    return {
        "PruneTrain": {"methods": (*both, PRUNE)},
        "Net2Net": {"model": {"width_multiplier": 0.5}, "methods": (WHITENING, grow, GROWING)},
        "steps of the rate": {"train": {"schedule": STEPS}},
        "growing batch": {"train": {"schedule": STEPS}, "methods": (*both, growing)},
        "look-ahead": {"methods": (*both, {"name": "look_ahead"})},
        "full size, three epochs": {"methods": (WHITENING,), "train": {"epochs": 3}},
        "no whitening": {"methods": (GROWING,)},
    }


def get_config():
    """The experiment."""
    config = SPRINT["get_config"]().to_dict()
    config["train"] |= {"epochs": 5, "test_views": "one"}
    return ConfigDict(
        config
        | {
            "name": "cifar10_sprint_parts",
            "recipe": "the sprint in five epochs",
            "replicates": 2,
            "ablation_replicates": 2,
            "methods": (WHITENING, GROWING),
            "ablations": ConfigDict(parts(), sort_keys=False),
        }
    )
