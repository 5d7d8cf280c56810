"""The scoreboard: image classification of MLPerf Tiny, 8 bits in and out, against its ResNet-8.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-experiment --config=configs/mlperf_tiny.py --output=results/mlperf_tiny.json
    tfeffi-experiment --config=configs/mlperf_tiny.py:ResNet-8,large    # only these networks

What: CIFAR-10. The reference's architecture, two networks that are to beat it (half the bytes and half
the time at its accuracy; 91 % within 256 kB), narrow MobileNetV2 and VGG, and the reference pruned by
half. The large network looks at an image six times within its file, mirrored and moved by a pixel; the
small one learns from what two seeds of the large one say together to every crop. Each is exported
with int8 inputs and outputs, calibrated on 500 training images, and the file is scored on all 10 000
test images. All files are timed in one interleaved run, one thread, ratios to the reference's. The files
of the median seed of the two networks are put beside --output.

Source: Banbury et al. 2021, "MLPerf Tiny Benchmark", arXiv 2106.07597; Beyer et al. 2021, "Knowledge
distillation: A good teacher is patient and consistent", arXiv 2106.05237.

Cost: many hours on two cores without AMX; with it set --config.train.precision=mixed_bfloat16. A
killed run goes on where it was; nothing is done twice.

Read with care: the small network's widths, stem, head and crop, and the optimizer, were chosen by
trainings of 5 to 40 epochs on train[:90%], scored on the rest, and by its latency. Test accuracies seen
before the recipes were settled: of an earlier large network and of it pruned; of the large one's first
two seeds, before six views were kept and not two; of a small one with one teacher, before it got two and
more epochs, and of averages of its weights.
"""

from ml_collections import ConfigDict

from tfeffi.errors import BadInput, near


def ordered(values):
    """In the order written: the first network is what the others are held against."""
    return ConfigDict(values, sort_keys=False)


def resizing(*sizes):
    """Small images first."""
    return ({"name": "progressive_resizing", "sizes": sizes},)


def eight_bits(**more):
    """Arguments of the export: 8 bits throughout, nothing stored twice."""
    return {"quantize": "int8", "integer_io": True, "compact": True, **more}


def large():
    """For 91 % within 256 kB."""
    return {
        "model": {
            "name": "resnet_short", "widths": (24, 56, 84), "repeats": (0, 1, 1),
        },
        "seeds": (0, 1, 2), "train": {"epochs": 40},
        "methods": resizing((0, 16), (12, 24), (30, 32)),
        "exports": ordered(
            {
                "int8, six views": eight_bits(views="flip_and_move"),
                "int8, two views": eight_bits(views="flip"),
                "int8": eight_bits(),
            }
        ),
        "keep": {"int8, six views": "mlperf_tiny_large.tflite"},
    }  # fmt: skip


def small():
    """For the reference's accuracy in half its bytes and half its time."""
    return {
        "model": {
            "name": "resnet_short", "widths": (8, 24, 32), "repeats": (0, 1, 1),
            "kernel_size": 2, "shortcuts": (False, False, True), "head": 72,
        },
        "seeds": (0, 1, 2),
        "train": {
            "epochs": 120, "label_smoothing": 0.0,
            "augment": {"crop": 2, "flip": "alternate"},
        },
        "methods": resizing((0, 16), (32, 24), (74, 32)),
        "teacher": {
            "network": "large", "export": "int8", "seeds": (0, 1), "alpha": 0.9,
        },
        "exports": ordered(
            {"int8": eight_bits(), "int8, two views": eight_bits(views="flip")}
        ),
        "keep": {"int8": "mlperf_tiny_small.tflite"},
    }  # fmt: skip


def get_config(only=""):
    """The experiment; `only`: names of networks with commas between them, default all."""
    reference = {
        "model": {"name": "resnet8_mlperf_tiny"}, "seeds": (0,), "train": {"epochs": 40},
        "methods": resizing((0, 16), (12, 24), (30, 32)),
    }  # fmt: skip
    half = {"method": "prune", "importance": "l2", "budget": {"macs": 0.5}}
    config = ConfigDict(
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
            "methods": resizing((0, 16), (8, 24), (14, 32)),
            "exports": {"int8": {"quantize": "int8", "integer_io": True}},
            "networks": ordered(
                {
                    "ResNet-8": {
                        **reference,
                        "exports": ordered(
                            {
                                "int8": {"quantize": "int8", "integer_io": True},
                                "int8, compact": eight_bits(),
                                "float32": {},
                                "dynamic": {"quantize": "dynamic"},
                            }
                        ),
                    },
                    "large": large(),
                    "small": small(),
                    "ResNet-8 pruned": {
                        "base": "ResNet-8", "seeds": (0,), "compress": half, "methods": (),
                    },
                    "MobileNetV2": {
                        "model": {
                            "name": "mobilenet_v2", "width_multiplier": 0.35, "reductions": 4,
                        },
                        "seeds": (0,),
                    },
                    "VGG": {"model": {"name": "vgg", "width_multiplier": 0.125}, "seeds": (0,)},
                }
            ),
            "clock": {"threads": 1, "rounds": 9, "min_runs": 5000, "min_seconds": 5.0},
        }
    )  # fmt: skip
    wanted = only.split(",") if only else list(config.networks)
    for name in wanted:
        if name not in config.networks:
            raise BadInput(f'config: no network "{name}"; {near(name, config.networks)}')
    for name in list(config.networks):
        if name not in wanted:
            del config.networks[name]
    return config
