"""Prunability: every model of `keras.applications` loses half of its free channels, and all agrees.

    python benchmarks/applications.py --output=results/applications.json

Each model is built at its default input size with 1000 logits and random weights, batch statistics
settled, in a process of its own. Half of the channels of every free group go, chosen at random. A
model passes if channels went and

- the small model gives what the dense model gives when the dropped channels are masked to zero where
  they are read: `gap`, the largest difference over the largest output, is at most 1e-5 in float32;
- after one training step (batch 2 of `step_image_size`) every trainable weight is finite and changed;
- its .keras file, loaded by a process in another folder that cannot import tfeffi, gives the same;
- its .tflite gives the same as Keras: the largest difference is at most 1e-4 of the largest output.

The oracle's masks follow the model by the code below (`masked`), not by that of surgery, which only
says which channels of each layer with kernels go; where two branches meet, their masks must be equal.
It can fail: `one_wrong_channel` is the gap when a single dropped channel halfway (or `wrong_at`) in
the network stays in the place of one that is kept, `variation` is how much the outputs of two images
differ; both must be ten times the gap and 1e-6 at least. Every finished model is a file in --cache; a
killed run goes on, a model that failed is tried again. `seconds` is the surgery alone (labels,
plan, building the small model), once, in a fresh process; --seconds_only measures just that again, on
a quiet machine, for all models in the cache.
"""

import inspect
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from tfeffi.tools import app

GAP, TFLITE_GAP, VISIBLE = 1e-5, 1e-4, 1e-6
DEPTHS = (0.5, 0.75)  # of the wrong channel: halfway, or later where rounding hides one so early
MEDIUM, STEP = 400, 256  # pixels: of larger images, a training step sees a part of this size
SIZES = {"MobileNetV3Large": 224, "MobileNetV3Small": 224}  # theirs is open; they trained at 224
LARGE = (
    "Tiny", "NASNetMobile", "InceptionResNetV2", "ConvNeXtSmall", "B4", "B5", "V2S", "Base", "B6",
    "V2M", "B7", "NASNetLarge", "V2L", "ConvNeXtLarge", "XLarge",
)  # fmt: skip
READERS = ("Conv1D", "Conv2D", "Dense", "SeparableConv2D")
PASSING = (
    "Activation", "ReLU", "BatchNormalization", "LayerNormalization", "Dropout", "ZeroPadding2D",
    "Cropping2D", "AveragePooling2D", "MaxPooling2D", "GlobalAveragePooling2D", "LayerScale",
    "GlobalMaxPooling2D", "Rescaling", "Normalization", "Reshape", "StochasticDepth",
)  # fmt: skip
MEETING = ("Add", "Multiply", "CustomScaleLayer")
LOAD = """
import sys, numpy as np
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tfeffi":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
try:
    import tfeffi
except ImportError:
    pass
else:
    raise SystemExit("tfeffi can be imported")
import keras
model, x = keras.models.load_model("small.keras"), np.load("x.npy")
np.save("y.npy", model.predict_on_batch(x) if x.shape[1] > 400 else np.asarray(model(x)))
"""


def names():
    """All architectures of `keras.applications`: its functions."""
    import keras

    found = vars(keras.applications)
    return sorted(name for name, value in found.items() if inspect.isfunction(value))


def built(name, size=None, seed=0):
    """An architecture with 1000 logits and random weights."""
    import keras

    size = size or SIZES.get(name)
    shape = {"input_shape": (size, size, 3)} if size else {}
    make = getattr(keras.applications, name)
    model = make(weights=None, classifier_activation=None, **shape)
    randomize(model, seed)
    return model


def randomize(model, seed):
    """Kernels at He's scale, and biases, slopes and statistics that are neither 0 nor 1."""
    import numpy as np

    from tfeffi import derived

    random = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        depthwise = type(layer).__name__ == "DepthwiseConv2D"
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            shape, name = tuple(weight.shape), weight.name
            if "kernel" in name:
                first = depthwise or name == "depthwise_kernel"
                fan_in = np.prod(shape[:2] if first else shape[:-1])
                value = random.standard_normal(shape, np.float32) * np.sqrt(2 / fan_in)
            elif name == "gamma" or "variance" in name or name == "variable":
                value = 0.5 + random.random(shape, np.float32)
            else:
                value = 0.1 * random.standard_normal(shape, np.float32)
            if weight.dtype == "float32":
                weight.assign(value.astype("float32"))
    derived.renew(model)


def pictures(model, seed=1):
    """Two images of patches, a reddish and a greenish one, in the range that the model takes."""
    import numpy as np

    random = np.random.default_rng(seed)
    _, height, width, _ = model.input_shape
    patch = -(-max(height, width) // 8)
    patches = random.random((2, 8, 8, 3), np.float32).repeat(patch, 1).repeat(patch, 2)
    tones = np.array([[0.7, 0.0, 0.4], [0.1, 0.6, 0.2]], np.float32)[:, None, None]
    x = 0.3 * patches[:, :height, :width] + tones
    rescales = any(type(layer).__name__ == "Rescaling" for layer in model.layers)
    return x * np.float32(255 if rescales else 1)


def settle(model, x):
    """Moves batch statistics halfway to those of the images once half of the channels are gone.

    Those of the dense model would let the masked one grow from block to block, to 1e11 in
    InceptionResNetV2, and so hide what one channel does.
    """
    import keras

    from tfeffi.surgery import Coupling

    coupling = Coupling.of(model)
    kept, layers = halved(coupling), model._flatten_layers()
    model = masked(model, {path: kept[of] for path, of in coupling.writers.items()})
    layers = [one for one in layers if isinstance(one, keras.layers.BatchNormalization)]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.5  # no variance is near 0, whatever two images say
    outputs(model, x, training=True)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum


def halved(coupling, seed=2):
    """(classes,) bool: half of every free group stays."""
    import numpy as np

    kept, random = np.ones(coupling.classes.count, bool), np.random.default_rng(seed)
    for group in coupling.groups:
        if not group.pinned:
            kept[random.permutation(group.classes)[: group.size // 2]] = False
    return kept


def one_wrong(coupling, kept, depth):
    """The same, but that a channel of the group at this depth stays in the place of another."""
    groups = [group for group in coupling.groups if not group.pinned and group.size > 1]
    classes = groups[int(depth * len(groups))].classes
    wrong = kept.copy()
    wrong[classes[kept[classes]][0]], wrong[classes[~kept[classes]][0]] = False, True
    return wrong


def oracle(model, coupling, kept, x):
    """What the masked model gives."""
    return outputs(masked(model, {path: kept[of] for path, of in coupling.writers.items()}), x)


def masked(model, kept):
    """The model with dropped channels multiplied by zero where they are read; it shares the weights.

    Args:
        model: functional, channels last, made of the layers named above.
        kept: (channels,) bool for each layer with kernels, by its path.
    """
    import keras
    import numpy as np

    masks = {}  # by the id of a symbolic tensor, which the graph keeps alive

    def of(tensor):
        return masks.setdefault(id(tensor), np.ones(tensor.shape[-1], bool))

    def call(layer, *args, prefix="", **kwargs):
        tensors = keras.tree.flatten(args)
        kind, source = type(layer).__name__, of(tensors[0])
        if kind == "Sequential":
            x = args[0]
            for inner in layer.layers:
                x = call(inner, x, prefix=f"{prefix}{layer.name}/")
            return x
        if getattr(layer, "groups", 1) == len(source) > 1:  # ConvNeXt's depthwise convolution
            mask = source.repeat(layer.filters // len(source))
        elif kind in READERS:
            mask = kept[prefix + layer.name]
            if not source.all():
                args = (keras.ops.multiply(args[0], source.astype("float32")), *args[1:])
        elif kind == "DepthwiseConv2D":
            mask = source.repeat(layer.depth_multiplier)
        elif kind == "Concatenate":
            mask = np.concatenate([of(tensor) for tensor in tensors])
        elif kind == "Flatten":
            mask = np.tile(source, np.prod(tensors[0].shape[1:-1]))
        elif kind in MEETING:
            wide = [of(t) for t in tensors if hasattr(t, "shape") and len(t.shape)]
            mask = max(wide, key=len)
            if any(len(one) > 1 and not np.array_equal(one, mask) for one in wide):
                raise ValueError(f"{layer.name}: channels meet of which only some were dropped")
        elif kind in PASSING:
            mask = source
        else:
            raise ValueError(f"{layer.name}: the oracle has no rule for {kind}")
        made = layer(*args, **kwargs)
        if made.shape[-1] != len(mask):
            raise ValueError(f"{layer.name}: the oracle lost its channels")
        masks[id(made)] = mask
        return made

    return keras.models.clone_model(model, clone_function=lambda one: one, call_function=call)


def outputs(model, x, training=False):
    """The outputs; of a model with large images compiled, so that memory is freed on the way."""
    import tensorflow as tf

    def run(batch):
        return model(batch, training=training)

    large = model.input_shape[1] > MEDIUM
    return (tf.function(run, autograph=False) if large else run)(x).numpy()


def apart(one, other):
    """The largest difference over the largest value."""
    import numpy as np

    return float(np.abs(one - other).max() / np.abs(one).max())


def surgery(model):
    """The small model, the coupling, which classes stay, and the seconds it took."""
    from tfeffi.surgery import Coupling, apply

    started = time.perf_counter()
    coupling = Coupling.of(model)
    kept = halved(coupling)
    small, _ = apply(coupling, coupling.keep(kept))
    return small, coupling, kept, time.perf_counter() - started


def counts(model, small, coupling, kept):
    """Channels of the layers with kernels, parameters and multiply-adds, before and after."""
    from tfeffi.analysis.cost import cost

    writers = list(coupling.writers.values())
    pinned = sum(int(c in coupling.classes.pinned) for of in writers for c in of)
    channels, before, after = sum(map(len, writers)), cost(model), cost(small)
    return {
        "layers": len(coupling.graph.layers), "image_size": model.input_shape[1],
        "channels": channels, "channels_after": sum(int(kept[of].sum()) for of in writers),
        "removed_channels": sum(int((~kept[of]).sum()) for of in writers),
        "pinned_share": pinned / channels,
        "params": before.params, "params_after": after.params,
        "macs": before.macs, "macs_after": after.macs,
    }  # fmt: skip


def loaded_elsewhere(small, x, folder):
    """The outputs of the saved model in a process that cannot import tfeffi."""
    import numpy as np

    small.save(folder / "small.keras")
    np.save(folder / "x.npy", x)
    command = [sys.executable, "-I", "-c", LOAD]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the saved model does not load: {done.stderr.strip().splitlines()[-1]}")
    (folder / "small.keras").unlink()
    return np.load(folder / "y.npy")


def trained(small, x):
    """One step with Adam, no dropout. Returns the loss and the weights that did not follow.

    The same layers take smaller pictures where large ones would need more than 10 GB.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    if x.shape[1] > MEDIUM:
        x, inputs = x[:, :STEP, :STEP], keras.Input((STEP, STEP, 3))
        small = keras.models.clone_model(small, inputs, clone_function=lambda one: one)
    for layer in small._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # of two images it may drop both, and with them a block's gradients
    before = [variable.numpy() for variable in small.trainable_variables]
    with tf.GradientTape() as tape:
        logits = small(x, training=True)
        labels = np.array([3, 7])
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )
    gradients = tape.gradient(loss, small.trainable_variables)
    optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-20)  # a bias before normalization: rounding
    optimizer.apply(gradients, small.trainable_variables)
    bad = [
        variable.path
        for variable, old in zip(small.trainable_variables, before, strict=True)
        if not np.isfinite(variable.numpy()).all() or np.array_equal(variable.numpy(), old)
    ]
    return float(loss), bad


def measured(name, size=None):
    """Everything about one model, as a row."""
    import numpy as np

    import tfeffi
    from tfeffi.analysis.memory import peak_memory_mb

    model = built(name, size)
    x = pictures(model)
    settle(model, x)
    small, coupling, kept, seconds = surgery(model)
    row = {"name": name, "seconds": seconds, **counts(model, small, coupling, kept)}
    mine = outputs(small, x)
    gap = apart(oracle(model, coupling, kept, x), mine)
    row.update(gap=gap, gap_ppm=1e6 * gap, variation=apart(mine[:1], mine[1:]))
    for depth in DEPTHS:
        wrong = oracle(model, coupling, one_wrong(coupling, kept, depth), x)
        row.update(wrong_at=depth, one_wrong_channel=apart(wrong, mine))
        if row["one_wrong_channel"] >= max(10 * gap, VISIBLE):
            break
    del model, coupling
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        row["load_gap"] = apart(mine, loaded_elsewhere(small, x, folder))
        made = tfeffi.export(small, folder / "small.tflite", check_with=x, tolerance=1.0)
    row.update(tflite_gap=made.relative_difference, tflite_bytes=made.bytes)
    row["loss"], stuck = trained(small, x)
    row["peak_memory_mb"] = peak_memory_mb()
    row["stuck_weights"] = len(stuck)
    row["step_image_size"] = STEP if x.shape[1] > MEDIUM else x.shape[1]
    judged = {
        "no channel could go": row["removed_channels"] > 0,
        f"gap {row['gap']:.1g}": row["gap"] <= GAP,
        f"a wrong channel hides: {row['one_wrong_channel']:.1g}": (
            row["one_wrong_channel"] >= max(10 * row["gap"], VISIBLE)
        ),
        f"the images give the same: {row['variation']:.1g}": row["variation"]
        >= max(10 * row["gap"], VISIBLE),
        f"loaded elsewhere it differs: {row['load_gap']:.1g}": row["load_gap"] <= GAP,
        f"the .tflite differs: {row['tflite_gap']:.1g}": row["tflite_gap"] <= TFLITE_GAP,
        f"the loss is {row['loss']}": np.isfinite(row["loss"]),
        f"weights that did not train: {stuck[:3]}": not stuck,
    }
    why = [reason for reason, fine in judged.items() if not fine]
    return {"passed": not why, **row, **({"why": "; ".join(why)} if why else {})}


def seconds_of(name):
    """The time of surgery alone."""
    return {"seconds": surgery(built(name))[-1]}


def in_a_process(name, seconds_only=False):
    """`measured` or `seconds_of` in a process of its own; what kills it becomes the row's reason."""
    command = [sys.executable, __file__, f"--one={name}"]
    command += ["--seconds_only"] if seconds_only else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
    return {"name": name, "passed": False, "why": f"exit {done.returncode}: {said[-1][:300]}"}


def wait_order(name):
    """Small models first, so that much is known soon."""
    return max((i + 1 for i, part in enumerate(LARGE) if name.endswith(part)), default=0), name


def main(_):
    from tfeffi import files
    from tfeffi.errors import BadInput
    from tfeffi.study.results import Result

    options = flags.FLAGS
    if options.one:
        run = seconds_of if options.seconds_only else measured
        print(json.dumps(run(options.one)))
        return
    result, cache = Result.new("applications"), pathlib.Path(options.cache)
    chosen = options.only or names()
    for name in sorted(chosen, key=wait_order):
        path = cache / f"{name}.json"
        row = json.loads(path.read_text()) if path.exists() else {}
        if options.seconds_only and row.get("passed"):
            row |= in_a_process(name, seconds_only=True)
        elif not row.get("passed"):
            row = in_a_process(name)
        files.write_json(path, row)
        result.add_row(**row)
        print(
            f"{name:20} {'passed' if row['passed'] else row['why']}  {row.get('gap')}", flush=True
        )
    result.rows.sort(key=lambda row: row["name"])
    result.write(options.output)
    if failed := [row["name"] for row in result.rows if not row["passed"]]:
        raise BadInput(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    flags.DEFINE_string("output", "results/applications.json", "The result file.")
    flags.DEFINE_list("only", [], "These models; all by default.")
    flags.DEFINE_string("cache", "runs/applications", "Where a file for each finished model lies.")
    flags.DEFINE_bool("seconds_only", False, "Measure the time of surgery again, nothing else.")
    flags.DEFINE_string("one", None, "Internal: measure this model in this process.")
    app.run(main)
