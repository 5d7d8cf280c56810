"""The scoreboard: image classification of MLPerf Tiny, 8 bits in and out, against its ResNet-8.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/mlperf_tiny.py --output=results/mlperf_tiny.json
"""

from ml_collections import ConfigDict


def ordered(values):
    """In the order written: the first network is what the others are held against."""
    return ConfigDict(values, sort_keys=False)


def resizing(*sizes):
    """Small images first."""
    return ({"name": "progressive_resizing", "sizes": sizes},)


def get_config():
    """The experiment."""
    large = {
        "seeds": (0, 1, 2),
        "model": {"name": "resnet_short", "widths": (24, 56, 80), "repeats": (0, 1, 1)},
        "train": {"epochs": 20},
        "methods": resizing((0, 16), (4, 24), (10, 32)),
        "keep": {"int8": "results/mlperf_tiny_large.tflite"},
    }
    return ConfigDict(
        {
            "name": "mlperf_tiny",
            "experiment": "scoreboard",
            "data": {"name": "cifar10", "train": "train", "test": "test"},
            "train": {
                "epochs": 20,
                "batch_size": 256,
                "learning_rate": 0.1,
                "optimizer": {
                    "name": "convolution_muon", "vector_rate": 0.5, "matrix_rate": 0.5,
                },
                "schedule": {"name": "triangular", "peak_at": 0.1},
                "label_smoothing": 0.1,
                "augment": {"crop": 4, "flip": "alternate"},
                "evaluate_every": 1000,
            },
            "exports": {"int8": {"quantize": "int8", "integer_io": True}},
            "networks": ordered({"large": large}),
            "clock": None,
        }
    )  # fmt: skip
