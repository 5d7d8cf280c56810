"""PruneTrain on ResNet-50, by the recipe of configs/prunetrain.py.

    tfeffi-fetch-data --dataset=cifar10
    TF_ENABLE_ONEDNN_OPTS=1 tfeffi-experiment --config=configs/prunetrain_resnet50.py \\
        --output=results/prunetrain_resnet50.json

What: as configs/prunetrain.py, with the ResNet-50 of the family for CIFAR-10 (basic blocks, 6·8 + 2
layers; the paper's has bottlenecks) at its own width of 16, in twelve epochs and in float32. Widths are
multiples of 8, as of 16 the first stage could not lose any.

Why: what is lost where less than half of a deeper network is left, and how much of that is time, in a
schedule that fits two cores. In float32 a CPU with AVX2 takes vectors of 8, so that widths of
8 are not slower than they must be.

Source: Lym et al. 2019, arXiv 1901.09290, and its reference code: 50 % of training and 70 % of inference
multiply-adds at 93.1 %, in 182 epochs, of a ResNet-50 of bottlenecks.

Cost: two hours a seed and core of a CPU with AVX2, where TensorFlow leaves oneDNN off without the
variable above; a seed by `--config.only="('ResNet-50 seed 0',)"`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

WHOLE = runpy.run_path(str(pathlib.Path(__file__).with_name("prunetrain.py")))
SIZES = ((0, 16), (4, 24), (10, 32))
PRUNING = WHOLE["WITHIN"] | {"multiple_of": 8}


def get_config():
    """The experiment."""
    config = WHOLE["get_config"]().to_dict()
    pair = WHOLE["pair"]("ResNet-50", 12, SIZES, (0, 1), {"depth": 50}, **PRUNING)
    train = config["train"] | {"precision": "float32"}
    groups = WHOLE["ordered"]({"ResNet-50": pair})
    return ConfigDict(config | {"name": "prunetrain_resnet50", "train": train, "groups": groups})
