"""Pruned, sparse, clustered and quantized, in every order: accuracy, bytes, and what is left of each.

    tfeffi-experiment --config=configs/composition.py --output=results/composition.json

What: an MLPerf Tiny ResNet-8 of half its width on the 10 000 images of fashion_mini, then every order
of every subset of {channels, clusters, qat} and of {zeros, clusters, qat}, and two chains of more
steps. "channels" removes channels until half of the multiply-adds are left, "zeros" makes the smallest
half of each kernel zero, "clusters" leaves sixteen values a kernel, "qat" trains with the rounding of
int8 (tensorflow-model-optimization over the bridge); tfmot_zeros and tfmot_clusters are that library's
own. Each is followed by three epochs of Adam that holds what came before. The accuracy is of the int8
.tflite on the test images, over the seeds; bytes are of the first seed's.

Why: "Combinations keep what came before" is a claim about bytes. Channels, zeros and values are read
from the buffers of each file; `lost` names what a later step took away again.

Cost: some half an hour on one core that is free. Needs the extra: pip install tfeffi[tfmot].

What to expect: an int8 file is as large with zeros or shared values as without; zipped it is not.
Values are counted in each output channel, as int8 has a scale for each.
"""

from ml_collections import ConfigDict


def get_config():
    """The experiment."""
    return ConfigDict(
        {
            "name": "composition",
            "experiment": "composition",
            "seeds": (0, 1),
            "data": {"name": "fashion_mini", "train": "train", "test": "test"},
            "model": {
                "name": "resnet8_mlperf_tiny",
                "input_shape": (28, 28, 1),
                "num_classes": 10,
                "width_multiplier": 0.5,
            },
            "train": {
                "epochs": 8,
                "batch_size": 64,
                "learning_rate": 0.05,
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
                "schedule": {"name": "cosine", "warmup_epochs": 1},
            },
            "tune": {
                "epochs": 3,
                "batch_size": 64,
                "learning_rate": 1e-3,
                "optimizer": {"name": "adam"},
                "schedule": {"name": "cosine"},
            },
            "asked": {"macs": 0.5, "multiple_of": 4, "sparsity": 0.5, "bits": 4},
            "calibration": 500,
            "min_agreement": 0.8,  # of a file's classes with those of its model, else it is refused
            "families": (("channels", "clusters", "qat"), ("zeros", "clusters", "qat")),
            "chains": (
                ("channels", "zeros", "clusters", "qat"),
                ("zeros", "channels", "clusters", "qat"),
                ("tfmot_zeros", "tfmot_clusters", "qat"),
            ),
        }
    )
