"""The demo: an MNIST classifier on Fashion-MNIST images, and what it costs once it is made cheap.

    tfeffi-sweep --config=configs/demo.py --workdir=runs/demo      (`make demo`)

Trains the three-convolution network of Çallı 2017 (Table 2.2) on the embedded 10 000 images, makes
its variants, fine-tunes, exports and times them on one thread, and writes report.html. Takes
two to six minutes on two CPU cores; expect 89 to 91 % for the float32 model.
"""

from ml_collections import ConfigDict

TOUCH_UP = {"epochs": 6, "learning_rate": 0.02}  # after a change that kept most of the function
RETRAIN = {"epochs": 10, "learning_rate": 0.05}  # after one that did not


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "demo",
            "seed": 0,
            "data": {
                "name": "fashion_mini",
                "train": "train[:95%]",
                "validation": "train[95%:]",
                "test": "test",
            },
            "model": {"name": "mnist_classifier"},
            "train": {
                "epochs": 14,
                "batch_size": 64,
                "learning_rate": 0.02,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "cosine", "warmup_epochs": 1},
                "l2": 2e-4,
                "augment": {"crop": 2, "flip": True},
            },
            "variants": ConfigDict(
                {
                    "float32": {"export": {}},
                    "float16": {"export": {"quantize": "float16"}},
                    "int8": {"export": {"quantize": "int8"}},
                    "pruned": {
                        "compress": {"method": "prune", "budget": {"macs": 0.3}},
                        "finetune": RETRAIN,
                    },
                    "pruned_int8": {"base": "pruned", "export": {"quantize": "int8"}},
                    "small": {
                        "compress": {
                            "method": "prune",
                            "importance": "l2",
                            "budget": {"macs": 0.15},
                        },
                        "finetune": RETRAIN,
                    },
                    "small_int8": {"base": "small", "export": {"quantize": "int8"}},
                    "factorized": {
                        "compress": {"method": "factorize", "budget": {"macs": 0.3}},
                        "finetune": TOUCH_UP,
                    },
                    "separable": {"compress": {"method": "separable"}, "finetune": RETRAIN},
                    "1d": {"compress": {"method": "1d"}, "finetune": TOUCH_UP},
                },
                sort_keys=False,
            ),
        }
    )
