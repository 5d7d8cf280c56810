"""How many times faster than stock Keras the sprint is, on one machine, one after the other.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/sprint_against_stock.py --output=results/sprint_against_stock.json

What: one seed of configs/cifar10_sprint.py, then an epoch of the common way: ResNet-18 by `model.fit` in
float32, batches of 128, SGD with Nesterov momentum and weight decay. Its 200 epochs are extrapolated from
that one, without crop, flip and normalization, which favours it; it is a time, nothing is trained to the
end. Compiling counts for the sprint, and not for stock Keras.

Why: the sprint's own seconds are of another day, if not of another machine; a ratio needs both at once.

Source: the recipe is that of kuangliu/pytorch-cifar.

Cost: twenty minutes on two cores that compute in bfloat16 and that nothing else uses.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

SPRINT = runpy.run_path(str(pathlib.Path(__file__).with_name("cifar10_sprint.py")))


def get_config():
    """The experiment."""
    config = SPRINT["get_config"]().to_dict()
    model = {"name": "resnet_imagenet", "depth": 18, "stem": "3x3"}
    stock = {
        "model": {**model, "input_shape": (32, 32, 3), "num_classes": 10},
        "data": config["data"],
        "batch_size": 128,
        "epochs": 200,
        "measured_epochs": 1,
    }
    names = {"name": "sprint_against_stock", "recipe": "the sprint"}
    return ConfigDict(config | names | {"replicates": 1, "stock": stock})
