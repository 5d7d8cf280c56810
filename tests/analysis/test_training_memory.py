"""The memory of a training step: counted by hand, and against what a real process takes."""

import json
import os
import subprocess
import sys

import keras
import pytest

from tfeffi.analysis.memory import TrainingMemory, largest_batch, training_memory
from tfeffi.errors import BadInput
from tfeffi.study import machine
from tfeffi.train.precision import recast

CODE = """
import json
import sys
import keras
import numpy as np
from tfeffi import compress, data, models
from tfeffi.analysis.memory import peak_memory_mb, training_memory
from tfeffi.train import Settings
from tfeffi.train.loop import CompiledStep, _batches, begin

images = data.Images(
    images=np.zeros((512, 32, 32, 3), "uint8"), labels=np.zeros(512, "int64"), num_classes=10,
    class_names=tuple("0123456789"), name="x", split="train",
)
keras.utils.set_random_seed(0)
model = models.build("resnet_cifar", input_shape=(32, 32, 3), num_classes=10, depth=8)
if sys.argv[2] == "pruned":
    model = compress.prune(model, compress.Budget(macs=0.4), importance="l1")[0]
peaks = []
for batch in (64, 512):  # the peak only rises
    run = begin(model, images, None, Settings(batch_size=batch, precision=sys.argv[1]))
    step = CompiledStep(run)
    for _ in range(2):
        step(*next(iter(_batches(run))))
    int(run.totals.steps)
    peaks.append(peak_memory_mb())
print(json.dumps([(peaks[1] - peaks[0]) / 448, training_memory(run.model).sample / 1e6]))
"""


@pytest.mark.parametrize(
    "how", [("float32", "whole"), ("float32", "pruned"), ("mixed_bfloat16", "whole")]
)
def test_a_real_step_takes_what_the_model_of_it_says(how):
    """The slope over the batch; what does not grow with it is the program and its compiler.

    By oneDNN's convolutions, on CPUs, too, where TensorFlow leaves it off: its own take workspace that
    grows with the batch and differs between runs. Without AVX-512 there are none in bfloat16, and what
    they work on is copied.
    """
    command, with_onednn = [sys.executable, "-c", CODE, *how], {"TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | with_onednn
    )
    measured, expected = json.loads(done.stdout.splitlines()[-1])
    features = machine.hardware()["cpu_features"]
    copies = how[0] == "mixed_bfloat16" and "avx2" in features and "avx512f" not in features
    assert expected == pytest.approx(measured, rel=0.25) or (
        copies and expected < measured < 3 * expected
    )


def small(dtype="float32", activation="relu"):
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = keras.layers.Activation(activation)(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return recast(keras.Model(inputs, keras.layers.Dense(2)(x)), dtype)


def test_what_stays_for_the_backward_pass_by_hand():
    memory = training_memory(small(), slots=1)
    weights, statistics = 3 * 3 * 3 * 4 + 2 * 4 + 4 * 2 + 2, 2 * 4
    assert memory.fixed == 4 * (3 * weights + statistics)
    image, maps, pooled = 8 * 8 * 3, 8 * 8 * 4, 4
    # kept: the image, what goes into the normalization, what ReLU gives, what the dense layer takes
    assert memory.sample == 4 * (image + 2 * maps + pooled) + 4 * 2 * maps
    assert training_memory(small(), slots=2).fixed - memory.fixed == 4 * weights
    half = training_memory(small("mixed_bfloat16"))
    assert half.sample < 0.7 * memory.sample and half.fixed > memory.fixed


def test_a_gelu_keeps_what_it_takes_and_a_relu_what_it_gives():
    """The pooling that follows keeps nothing, so that both keep one tensor of the same size."""
    assert training_memory(small(activation="gelu")) == training_memory(small())
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.Activation("gelu")(inputs))
    kept = 2 * 8 * 8 * 4  # what GELU takes and what the convolution takes
    assert training_memory(keras.Model(inputs, x)).sample == 4 * (kept + 2 * 8 * 8 * 4)


def test_the_largest_batch_that_fits():
    memory = TrainingMemory(fixed=1000, sample=10)
    assert memory.bytes(32) == 1320
    assert largest_batch(memory, 1320) == 32
    assert largest_batch(memory, 1959) == 64 and largest_batch(memory, 1640) == 64
    assert largest_batch(memory, 1319) == 31  # below the granularity: what fits
    assert largest_batch(memory, 1319, granularity=5) == 30


@pytest.mark.parametrize(
    ("capacity", "granularity", "message"),
    [
        (1009, 32, "1,009 bytes are below one image, which needs 1,010; give more"),
        (-5, 32, "below one image"),
        (5000, 0, "granularity=0"),
    ],
)
def test_bad_budgets(capacity, granularity, message):
    with pytest.raises(BadInput, match=message):
        largest_batch(TrainingMemory(fixed=1000, sample=10), capacity, granularity)
