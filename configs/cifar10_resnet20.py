"""ResNet-20 on CIFAR-10, the recipe of He et al. 2015 shortened to 60 epochs with a cosine.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-train --config=configs/cifar10_resnet20.py --workdir=runs/cifar10_resnet20

One epoch takes a minute or two on two CPU cores; --config.train.epochs=1 is a first look. On a CPU
with avx512_bf16 or amx_bf16 add --config.train.precision=mixed_bfloat16. The validation split is the
test split, watched and not used: nothing is stopped or chosen by it.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "cifar10_resnet20",
            "seed": 0,
            "replicates": 1,
            "data": {"name": "cifar10", "train": "train", "validation": "test", "test": "test"},
            "model": {"name": "resnet_cifar", "depth": 20, "width": 16},
            "train": {
                "epochs": 60,
                "batch_size": 128,
                "learning_rate": 0.1,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "cosine", "warmup_epochs": 1},
                "l2": 1e-4,
                "augment": {"crop": 4, "flip": True},
                "precision": "float32",
                "evaluate_every": 1,
            },
            "methods": (),
        }
    )
