"""What each choice in configs/prunetrain.py is good for: the same, but for one thing at a time.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/prunetrain_choices.py \\
        --output=results/prunetrain_choices.json

What: ResNet-20 on CIFAR-10 with the recipe of configs/prunetrain.py, short, and `FIRST` there as its
PruneTrain: dense, with PruneTrain, and PruneTrain with one thing changed: a growing batch, an equal
penalty, norms that are not held, the threshold variant (which cannot hold them, and has a threshold of
its own), one optimizer throughout; half the width that grows twice by Net2Net, alone, and pruned after
each growth. All images, in float32; test accuracy of one view. The rows of a seed train side by side, an
epoch in turn.

Why: a recipe whose parts were never left out is a superstition.

Source: as configs/prunetrain.py; the combination with Net2Net (Chen et al. 2015, arXiv 1511.05641) was
planned in Buehler 2020 and not run.

Cost: eighty minutes a seed and core, and 10 GB of memory, a process for each row; a seed by
`--config.only="('prunetrain_choices seed 0',)"`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

WHOLE = runpy.run_path(str(pathlib.Path(__file__).with_name("prunetrain.py")))
EPOCHS, SIZES = 8, ((0, 16), (5, 24), (7, 32))
COMMON = WHOLE["FIRST"] | {"multiple_of": 8}


def proximal(**changes):
    """PruneTrain of 8 filters and more."""
    return WHOLE["proximal"](SIZES, **COMMON | changes)


def get_config():
    """The experiment."""
    small, *_, switch = WHOLE["recipe"](SIZES)
    muon = {"optimizer": WHOLE["MUON"], "learning_rate": 0.06, "l2": 0.0}
    threshold = {"hold": False, "variant": "threshold", "threshold": 1e-3}
    growth = {"name": "net2net", "epochs": (1, 3), "widen": 1.5}
    methods = {
        "dense": (),
        "PruneTrain": (proximal(),),
        "growing batch": (proximal(memory_bytes=230e6, max_batch=512),),
        "equal penalty": (proximal(weighting="equal"),),
        "norms shrink": (proximal(hold=False),),
        "threshold": (proximal(**threshold),),
        "Net2Net": (growth,),
        "Net2Net and PruneTrain": (growth, proximal()),
    }
    strategies = {
        name: {
            "model": {"width": 8 if name.startswith("Net2Net") else 16},
            "methods": (small, *chosen, switch),
        }
        for name, chosen in methods.items()
    }
    for name, train in {"SGD": {}, "Muon": muon}.items():
        strategies[f"{name} throughout"] = {"train": train, "methods": (small, proximal())}
    config = WHOLE["get_config"]().to_dict()
    del config["groups"]
    config["model"]["depth"] = 20
    own = {"test_views": "one", "precision": "float32"}
    config["train"] |= WHOLE["train"](EPOCHS, SIZES) | own
    return ConfigDict(
        config
        | {
            "name": "prunetrain_choices",
            "seeds": (0, 1),
            "strategies": WHOLE["ordered"](strategies),
        }
    )
