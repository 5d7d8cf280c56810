"""Every way to quantize, on the same trained networks: accuracy, bytes, memory and latency.

    python benchmarks/quantization.py --output=results/quantization.json

Two networks, one of plain and one of depthwise convolutions, are trained on the embedded images of
Fashion-MNIST and exported by every recipe of `tfeffi.export`, and by one that differs by layer: 8 bits
for the first and the last layer with weights, 4 between them. Accuracies are of the .tflite files on
the test images; integer activations are calibrated on 500 training images. All files of a network
are timed in one interleaved run, one thread. `fallback` names the operators that XNNPACK does not
take: LiteRT's own kernels run them. Trainings are kept in --workdir and not repeated.

About four minutes on 2 cores that have nothing else to do.
"""

import pathlib
import re
import tempfile

from absl import flags

from tfeffi.tools import app

CALIBRATION_IMAGES = 500
MIXED = "static_int4 within int8"
MODELS = {
    "mnist_classifier": {},
    "mobilenet_v2": {
        "input_shape": (28, 28, 1), "num_classes": 10, "width_multiplier": 0.5, "reductions": 2,
    },
}  # fmt: skip


def trained(name, train):
    """The network after its training, in float32."""
    import keras

    from tfeffi import models
    from tfeffi.train import fit
    from tfeffi.train.settings import Settings

    epochs = flags.FLAGS.epochs
    settings = Settings.from_mapping(
        {
            "epochs": epochs, "batch_size": 64, "learning_rate": 0.02, "l2": 2e-4,
            "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "schedule": {"name": "cosine", "warmup_epochs": 1 if epochs > 1 else 0},
        }
    )  # fmt: skip
    workdir = pathlib.Path(flags.FLAGS.workdir) / f"{name}_{epochs}_{len(train.images)}"
    keras.utils.set_random_seed(0)  # a killed run goes on from the same weights
    model = models.build(name, **MODELS[name])
    return fit(model, train, settings=settings, workdir=workdir, verbose=False).model


def ways(model):
    """What `export` is asked for, by the name of the row."""
    from tfeffi.export import recipes

    found = {"float32": {}, **{name: {"quantize": name} for name in recipes.RECIPES}}
    kernels = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    ends = {re.escape(name): "int8" for name in (kernels[0], kernels[-1])}
    return {**found, MIXED: {"recipe": {**ends, ".*": "static_int4"}}}


def fallback(path):
    """The operators that XNNPACK leaves to LiteRT's own kernels, and how many it takes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    joined = [node for node in nodes if node["op_name"] == "DELEGATE"]
    within = {int(i) for node in joined for i in node["outputs"]}
    left, taken = [], 0
    for node in nodes:
        if node["op_name"] == "DELEGATE":
            continue
        outputs = [int(i) for i in node["outputs"]]
        if joined and (within.intersection(outputs) or not _has_memory(interpreter, outputs[0])):
            taken += 1
        else:
            left.append(node["op_name"])
    return {"xnnpack_operators": taken, "fallback": ", ".join(sorted(set(left))) or "none"}


def _has_memory(interpreter, index):
    """What is computed within the delegate only has none of its own."""
    try:
        interpreter.tensor(index)()
    except (ValueError, RuntimeError):
        return False
    return True


def exported(name, model, train, test, folder):
    """Exports, measures accuracy and sizes; a row a way, with its "file"."""
    from tfeffi import bench, cost, export
    from tfeffi.export import recipes

    counted = cost(model)
    for way, arguments in ways(model).items():
        path = folder / f"{name}_{re.sub('[^a-z0-9]+', '_', way)}.tflite"
        needs = recipes.check(arguments.get("quantize"), arguments.get("recipe"))
        calibration = train.take(CALIBRATION_IMAGES) if needs else None
        made = export(
            model, path, calibration=calibration, check_with=train, min_agreement=0.0, **arguments
        )
        print(made.table(), flush=True)
        yield {
            "name": f"{name} {way}", "file": path, "dataset": f"{test.name} {test.split}", "n": 1,
            "accuracy_mean": bench.evaluate(path, test), "top1_agreement": made.top1_agreement,
            "macs": counted.macs, "params": counted.params, "bytes": made.bytes,
            "zip_bytes": made.zip_bytes, "activation_bytes": made.activation_bytes,
            "arena_bytes": made.arena_bytes, **fallback(path),
        }  # fmt: skip


def measured(name, train, test, rounds):
    """The rows of one network, timed against its float32 file."""
    from tfeffi import bench
    from tfeffi.study import latencies

    with tempfile.TemporaryDirectory() as folder:
        model = trained(name, train)
        rows = list(exported(name, model, train, test, pathlib.Path(folder)))
        paths = [row.pop("file") for row in rows]
        times = [{"ratio_to": rows[0]["name"]} for _ in rows]
        if rounds:
            compared = bench.compare(paths, rounds=rounds).rows
            times = [latencies.columns(row, rows[0]["name"]) for row in compared]
        for row, time in zip(rows, times, strict=True):
            yield {k: v for k, v in {**row, **time}.items() if v is not None}


def main(_):
    """Measures and writes."""
    from tfeffi import data
    from tfeffi.study.results import Result

    app.import_tensorflow()
    options = flags.FLAGS
    result = Result.new("quantization")
    train, test = data.load("fashion_mini", options.images), data.load("fashion_mini", "test")
    for name in options.models or MODELS:
        for row in measured(name, train, test, options.rounds):
            result.add_row(**row)
    result.write(options.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", "results/quantization.json", "the result file")
    flags.DEFINE_string("workdir", "runs/quantization", "where trainings are kept")
    flags.DEFINE_integer("epochs", 6, "of each training", lower_bound=1)
    flags.DEFINE_string("images", "train", "the split that is trained on")
    flags.DEFINE_list("models", None, "only these networks; default all")
    flags.DEFINE_integer("rounds", 5, "turns of each file; 0: no times", lower_bound=0)
    app.run(main)
