"""What each choice in configs/prunetrain.py is good for: the same, but for one thing at a time.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/prunetrain_choices.py --output=results/prunetrain_choices.json \\
        --figure=docs/prunetrain_choices.png

What: ResNet-20 on CIFAR-10 with the recipe of configs/prunetrain.py, short: dense, with PruneTrain, and
PruneTrain with one thing changed: a growing batch, an equal penalty, multiples of 16 and of 1, norms that
are not held, the threshold variant, one optimizer throughout; growth by Net2Net alone, and grown and
pruned in cycles. All images; the rows of a seed train side by side, an epoch in turn.

Why: a recipe whose parts were never left out is a superstition.

Source: as configs/prunetrain.py; the combination with Net2Net (Chen et al. 2015, arXiv 1511.05641) was
planned in Buehler 2020 and not run.

Cost: an estimated half an hour a seed on two cores with bfloat16.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

WHOLE = runpy.run_path(str(pathlib.Path(__file__).with_name("prunetrain.py")))
EPOCHS, SIZES = 8, ((0, 16), (4, 24), (6, 32))


def proximal(**changes):
    """PruneTrain of 8 filters and more."""
    return WHOLE["proximal"](SIZES, **{"multiple_of": 8} | changes)


def get_config():
    """The experiment."""
    small, *_, switch = WHOLE["recipe"](SIZES)
    sgd = {"methods": (small, proximal())}
    muon = {
        "train": {"optimizer": WHOLE["MUON"], "learning_rate": 0.06, "l2": 0.0},
        "methods": (small, proximal()),
    }
    threshold = {"hold": False, "variant": "threshold", "threshold": 1e-3}
    growth = {"name": "net2net", "epochs": (2,), "widen": 2.0}
    cycles = {"name": "net2net", "epochs": (1, 3), "widen": 1.5}
    methods = {
        "dense": (),
        "PruneTrain": (proximal(),),
        "growing batch": (proximal(memory_bytes=130e6, max_batch=512),),
        "equal penalty": (proximal(weighting="equal"),),
        "multiples of 16": (proximal(multiple_of=16),),
        "any width": (proximal(multiple_of=1),),
        "norms shrink": (proximal(hold=False),),
        "threshold": (proximal(**threshold),),
        "Net2Net": (growth,),
        "Net2Net and PruneTrain": (cycles, proximal()),
    }
    strategies = {
        name: {
            "model": {"width": 8 if name.startswith("Net2Net") else 16},
            "methods": (small, *chosen, switch),
        }
        for name, chosen in methods.items()
    }
    dense_sgd = {"SGD throughout, dense": {"methods": (small,)}}
    others = {"SGD throughout": sgd, "Muon throughout": muon}
    config = WHOLE["get_config"]().to_dict()
    del config["groups"]
    config["model"]["depth"] = 20
    config["train"] |= WHOLE["train"](EPOCHS, SIZES)
    return ConfigDict(
        config
        | {
            "name": "prunetrain_choices",
            "seeds": (0, 1),
            "strategies": ConfigDict({**strategies, **dense_sgd, **others}, sort_keys=False),
        }
    )
