"""Training in a fraction of the multiply-adds: PruneTrain, Net2Net, and both, against dense training.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/prunetrain.py --output=results/prunetrain.json \\
        --figure=docs/prunetrain.png

What: CIFAR-10, all images, ResNet-32 and ResNet-50 (basic blocks, 6·8 + 2 layers: the nearest that this
family has), bfloat16, one recipe for all rows of a group. The rows of a group and seed train side by
side, an epoch in turn, so that what disturbs the machine disturbs all alike. Test accuracy at the end;
nothing is stopped or chosen by it. `_removed` is the share of the dense run of the same seed.

Source: Lym et al. 2019, arXiv 1901.09290, table 1: ResNet-32 loses 53 % of its training and 66 % of its
inference multiply-adds at 91.8 %, ResNet-50 50 % and 70 % at 93.1 %, in 182 epochs. The combination with
Net2Net (Chen et al. 2015, arXiv 1511.05641) was planned in Buehler 2020 and not run.

Cost: on two idle cores with AMX some 80 s for a dense epoch of ResNet-32. A killed run goes on where
it was; nothing is done twice.
"""

from ml_collections import ConfigDict


def proximal(**changes):
    """PruneTrain with exact zeros: what a short schedule needs."""
    return {
        "name": "prune_train", "ratio": 0.4, "interval": 2, "variant": "proximal",
    } | changes  # fmt: skip


def ordered(values):
    """In the order written: the first strategy of a group is the one the others are held against."""
    return ConfigDict(values, sort_keys=False)


def get_config():
    """The experiment."""
    growth = {"name": "net2net", "epochs": (4, 10), "widen": 1.4}
    small = {"model": {"width": 8}}
    return ConfigDict(
        {
            "name": "prunetrain",
            "experiment": "strategies",
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "model": {"name": "resnet_cifar", "depth": 32},
            "train": {
                "epochs": 40,
                "batch_size": 128,
                "learning_rate": 0.15,
                "schedule": {"name": "triangular", "peak_at": 0.15},
                "precision": "mixed_bfloat16",
                "l2": 2.5e-4,
                "augment": {"crop": 4, "flip": True},
            },
            "groups": ordered(
                {
                    "ResNet-32": {
                        "seeds": (0, 1),
                        "strategies": ordered(
                            {
                                "ResNet-32": {},
                                "PruneTrain": {"methods": (proximal(),)},
                                "PruneTrain growing batch": {
                                    "methods": (proximal(memory_bytes=350e6, max_batch=256),)
                                },
                                "PruneTrain threshold": {
                                    "methods": (proximal(variant="threshold", threshold=1e-3),)
                                },
                                "Net2Net": {**small, "methods": (growth,)},
                                "Net2Net and PruneTrain": {
                                    **small,
                                    "methods": (growth, proximal()),
                                },
                            }
                        ),
                    },
                    "ResNet-50": {
                        "seeds": (0,),
                        "strategies": ordered(
                            {
                                "ResNet-50": {"model": {"depth": 50}},
                                "PruneTrain 50": {"model": {"depth": 50}, "methods": (proximal(),)},
                            }
                        ),
                    },
                }
            ),
        }
    )
