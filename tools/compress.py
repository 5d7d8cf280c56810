"""Makes a trained Keras model smaller: prunes channels, factorizes or replaces layers, fine-tunes.

    tfeffi-compress --model=m.keras --output=s.keras --method=prune --budget_macs=0.5 \\
        --dataset=fashion_mini --finetune_epochs=4
    tfeffi-compress --model=m.keras --output=s.keras --method=prune --budget_latency=0.5 \\
        --dataset=fashion_mini --iterations=3 --finetune_epochs=4
    tfeffi-compress --model=m.keras --output=s.keras --method=factorize --energy=0.9
    tfeffi-compress --model=m.keras --output=s.keras --method=separable
    tfeffi-compress --model=m.keras --output=s.keras --method=sparsify --sparsity=0.9
    tfeffi-compress --model=m.keras --output=s.keras --method=tfmot_qat --tflite=s.tflite \\
        --dataset=fashion_mini --epochs=2

Prints what changed and what was left alone, and why; writes an ordinary .keras file and the report as
JSON beside it.
"""

import pathlib
import tempfile

from absl import flags

from tfeffi.tools import app

_MODEL = flags.DEFINE_string("model", None, "the trained .keras file", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "the .keras to write; must not exist", required=True)
_METHOD = flags.DEFINE_string(
    "method",
    None,
    "prune; sensitivity (prunes by a table of what each layer bears); factorize (channel, spatial, "
    "tucker force the form); separable, 1d or bottleneck (replace convolutions); sparsify or cluster "
    "(weights alone: no speed); tfmot_prune, tfmot_cluster or tfmot_qat (trained in "
    "tensorflow-model-optimization, on --dataset)",
    required=True,
)
_REPORT = flags.DEFINE_string(
    "report", None, "the JSON report to write; default: OUTPUT with .json for .keras"
)

_MACS = flags.DEFINE_float(
    "budget_macs", None, "multiply-adds allowed: up to 1 a fraction of the model's, else a number"
)
_PARAMS = flags.DEFINE_float("budget_params", None, "parameters allowed, likewise")
_BYTES = flags.DEFINE_float(
    "budget_bytes", None, "bytes of the exported float32 .tflite allowed, likewise"
)
_LATENCY = flags.DEFINE_float(
    "budget_latency", None, "prune, factorize: the fraction allowed of the model's own latency"
)
_LATENCY_MS = flags.DEFINE_float(
    "budget_latency_ms", None, "prune, factorize: milliseconds allowed, measured on the device"
)
_DEVICE = flags.DEFINE_string("device", None, "where latency is measured; default host")
_THREADS = flags.DEFINE_integer("threads", None, "of the engine, for latency; default 1")
_BENCHMARK_BINARY = flags.DEFINE_string(
    "benchmark_binary",
    None,
    "Google's benchmark_model, built for the device, to measure latency by",
)
_DEVICE_PYTHON = flags.DEFINE_string(
    "device_python", None, "the device's Python, for latency; default python3"
)
_QUANTIZE = flags.DEFINE_enum(
    "budget_quantize", None, ["int8"], "the files that bytes and latency are of; default float32"
)
_IGNORE = flags.DEFINE_list("ignore", [], "layers to leave alone, with commas between")
_MULTIPLE_OF = flags.DEFINE_integer(
    "multiple_of", None, "round widths and ranks up to it; default 8"
)

_IMPORTANCE = flags.DEFINE_string(
    "importance",
    None,
    "prune: of images activations (default), apoz, mean_activation, outliers; of labelled images "
    "taylor, taylor_abs, fisher; of weights l1, l2, geometric_median, group_lasso, bn_scale; random",
)
_REDUCTION = flags.DEFINE_string(
    "reduction", None, "prune: coupled channels score the mean, sum, max, prod or first of theirs"
)
_NORMALIZATION = flags.DEFINE_string(
    "normalization",
    None,
    "prune: makes the scores of layers comparable: none, mean, max, sum, l2, standardization, "
    "gaussian or lamp",
)
_PER = flags.DEFINE_string("per", None, "prune: macs or params: scores over what a channel costs")
_LOSS = flags.DEFINE_string(
    "loss", None, "prune by taylor or fisher: cross_entropy (default), self, reconstruction, ..."
)
_INEXACT = flags.DEFINE_bool(
    "inexact", None, "prune: channels may go that a layer takes statistics over, as softmax does"
)
_ITERATIONS = flags.DEFINE_integer(
    "iterations",
    None,
    "prune: reach the budget in so many steps, fine-tuning after each; default 1",
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule", None, ["linear", "geometric"], "prune: how the steps divide the way; default linear"
)
_EVALUATE = flags.DEFINE_enum(
    "evaluate", None, ["fidelity", "agreement", "accuracy"],
    "sensitivity: the score of a model; default fidelity, which like agreement needs no labels",
)  # fmt: skip
_RATIOS = flags.DEFINE_list(
    "ratios", None, "sensitivity: the shares of each layer's channels that are tried"
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "prune: channels scored at most this go")
_ENERGY = flags.DEFINE_float(
    "energy",
    None,
    "factorize: the share of the kernels' energy to keep; default 0.95 or the budget",
)
_RANK = flags.DEFINE_string(
    "rank",
    None,
    "factorize: share of the full rank, or evbmf: as many as stand out from noise. separable: filters "
    "per channel. 1d: channels between, or below 1 a share of break-even",
)
_INITIALIZE = flags.DEFINE_string(
    "initialize", None, "separable, 1d: svd (closest to the trained kernel; default) or random"
)
_MID_ACTIVATION = flags.DEFINE_string(
    "mid_activation", None, "separable, 1d: the activation in between, such as relu; default none"
)
_SPARSITY = flags.DEFINE_float(
    "sparsity",
    None,
    "sparsify, tfmot_prune: the fraction of weights that becomes zero; brings no speed",
)
_SCOPE = flags.DEFINE_enum(
    "scope",
    None,
    ["global", "layer"],
    "sparsify, prune: the least of all layers (default) or of each",
)
_BITS = flags.DEFINE_integer(
    "bits", None, "cluster: each kernel keeps 2^bits values; default 8; brings no speed"
)
_PRESERVE = flags.DEFINE_bool(
    "preserve_sparsity", None, "cluster (default no), tfmot_cluster (default yes): zeros stay zero"
)
_CLUSTERS = flags.DEFINE_integer(
    "clusters", None, "tfmot_cluster: how many values each kernel keeps; default 16"
)
_TFLITE = flags.DEFINE_string(
    "tflite", None, "tfmot_qat: the int8 .tflite to write, with the ranges that were trained"
)
_INTEGER_IO = flags.DEFINE_bool("integer_io", None, "tfmot_qat: its input and output are int8, too")
_MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement", None, "tfmot_qat: the share of images on which the file must give the class of "
    "the model; default 0.9",
)  # fmt: skip
_TRAINED_EPOCHS = flags.DEFINE_integer("epochs", None, "tfmot_*: of its training; default 2")
_TRAINED_BATCH = flags.DEFINE_integer("batch_size", None, "tfmot_*: images a step; default 64")
_TRAINED_RATE = flags.DEFINE_float(
    "learning_rate", None, "tfmot_*: of Adam, the peak of a cosine; default 0.001"
)

_DATASET = flags.DEFINE_string(
    "dataset", None, "images for prune (activations), factorize (data-aware) and fine-tuning"
)
_SPLIT = flags.DEFINE_string("split", "train", "of the dataset; training images only")
_VALIDATION = flags.DEFINE_string("validation_split", None, "images to validate fine-tuning on")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where the prepared datasets lie")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "resize the images to this")
_MEASURED = flags.DEFINE_integer(
    "measured_images",
    1000,
    "how many of the images to measure activations or responses on",
    lower_bound=1,
)

_DATA_AWARE = flags.DEFINE_bool(
    "data_aware", True, "let the images decide what is lost, not the weights alone"
)

_EPOCHS = flags.DEFINE_integer("finetune_epochs", 0, "train the result for so many epochs")
_BATCH_SIZE = flags.DEFINE_integer("finetune_batch_size", 64, "images a step")
_RATE = flags.DEFINE_float("finetune_learning_rate", 0.01, "peak of the cosine schedule")
_L2 = flags.DEFINE_float("finetune_l2", 0.0, "L2 penalty on the kernels")
_PRECISION = flags.DEFINE_string(
    "finetune_precision", "float32", "float32, mixed_bfloat16 or mixed_float16"
)
_TEACHER = flags.DEFINE_string(
    "finetune_teacher", None, "a .keras file, such as that of --model, whose answers it is tuned on"
)
_TEMPERATURE = flags.DEFINE_float(
    "finetune_temperature", None, "softens what the teacher says; default 1"
)
_ALPHA = flags.DEFINE_float(
    "finetune_alpha", None, "the teacher's share of the loss, the labels have the rest; default 1"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "where fine-tuning keeps its checkpoint: a killed run resumes there"
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "of fresh weights, random orders and fine-tuning", lower_bound=0
)


def main(_):
    """Compresses, fine-tunes if asked to, prints, writes."""
    from tfeffi import files
    from tfeffi.compress import by_name

    by_name.check(_METHOD.value)
    _check_teacher()
    _check_tflite()
    report_path, arguments = _report_path(), _arguments()
    images, validation = _images()

    app.import_tensorflow()  # last: it takes seconds, and most mistakes have shown by now
    import keras

    from tfeffi import models
    from tfeffi.compress import distillation

    keras.utils.set_random_seed(_SEED.value)
    model = models.load(_MODEL.value)
    teacher = _TEACHER.value and models.load(_TEACHER.value)
    if teacher:
        distillation.check_teacher(model, teacher)
    if images is not None and _DATA_AWARE.value and "data" in by_name.takes(_METHOD.value):
        arguments["data"] = images.take(_MEASURED.value)
    if "training_data" in by_name.takes(_METHOD.value):
        arguments["training_data"] = images
    if "seed" in by_name.takes(_METHOD.value):
        arguments["seed"] = _SEED.value
    if _EPOCHS.value and (_ITERATIONS.value or 1) > 1:
        arguments["finetune"] = _tuning_between(images, validation, teacher)
    small, report = by_name.compress(model, _METHOD.value, **arguments)
    print(report.table(), flush=True)
    made = report.to_json()
    if _EPOCHS.value:
        small, made["finetune"] = _finetune(small, images, validation, teacher)
    with files.replacing(_OUTPUT.value) as temporary:
        small.save(temporary)
    files.write_json(report_path, made)
    print(f"\nwrote {_OUTPUT.value} and {report_path}")


def _report_path() -> pathlib.Path:
    """Where the report goes; refuses every path that cannot be written before anything is done."""
    from tfeffi import files
    from tfeffi.errors import BadInput

    if not pathlib.Path(_MODEL.value).is_file():
        raise BadInput(f'there is no model file "{_MODEL.value}"')
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix != ".keras":
        raise BadInput(f'output "{output}" must end in .keras')
    report = pathlib.Path(_REPORT.value) if _REPORT.value else output.with_suffix(".json")
    files.refuse_existing(output)
    files.refuse_existing(report, "report")
    if report.resolve() == output.resolve():
        raise BadInput(f'report "{report}" is the output; name another')
    tflite = [pathlib.Path(_TFLITE.value)] if _TFLITE.value else []
    for path in [output, report, *tflite]:
        folder = next(one for one in path.absolute().parents if one.exists())
        tempfile.TemporaryFile(dir=folder).close()  # an OSError now, not after hours of training
    return report


def _images():
    """The training and validation images, or None."""
    from tfeffi import data
    from tfeffi.errors import BadInput
    from tfeffi.export.calibration import check_split

    if not _DATASET.value:
        for needs in [*["--finetune_epochs"] * bool(_EPOCHS.value), *_trained_by_tfmot()]:
            raise BadInput(f"{needs} needs --dataset=NAME, such as fashion_mini")
        return None, None
    check_split(_SPLIT.value, "compression")
    splits = (_SPLIT.value, _VALIDATION.value)
    arguments = {"data_dir": _DATA_DIR.value, "image_size": _IMAGE_SIZE.value}
    return tuple(data.load(_DATASET.value, s, **arguments) if s else None for s in splits)


def _trained_by_tfmot() -> list[str]:
    return [f"--method={_METHOD.value}"] if _METHOD.value.startswith("tfmot_") else []


def _arguments() -> dict:
    """The flags as arguments of the method; None where a flag is not given."""
    from tfeffi.compress import Budget

    budget = {
        "macs": _MACS.value, "params": _PARAMS.value, "bytes": _BYTES.value,
        "latency": _LATENCY.value, "latency_ms": _LATENCY_MS.value,
    }  # fmt: skip
    where = {
        "device": _DEVICE.value, "threads": _THREADS.value, "quantize": _QUANTIZE.value,
        "benchmark_binary": _BENCHMARK_BINARY.value, "device_python": _DEVICE_PYTHON.value,
    }  # fmt: skip
    where = {key: value for key, value in where.items() if value is not None}
    given = any(value is not None for value in budget.values())
    factorizes = _METHOD.value in ("factorize", "channel", "spatial", "tucker")
    return {
        "budget": Budget(**budget, **where) if given or where else None,
        "ignore": tuple(_IGNORE.value) or None,
        "multiple_of": _MULTIPLE_OF.value,
        "importance": _IMPORTANCE.value,
        "threshold": _THRESHOLD.value,
        "reduction": _REDUCTION.value,
        "normalization": _NORMALIZATION.value,
        "per": _PER.value,
        "loss": _LOSS.value,
        "inexact": _INEXACT.value,
        "iterations": _ITERATIONS.value,
        "schedule": _SCHEDULE.value,
        "evaluate": _EVALUATE.value,
        "ratios": _ratios(),
        "energy": _ENERGY.value,
        "ranks" if factorizes else "rank": _rank(),
        "initialize": _INITIALIZE.value,
        "mid_activation": _MID_ACTIVATION.value,
        "sparsity": _SPARSITY.value,
        "scope": _SCOPE.value,
        "bits": _BITS.value,
        "preserve_sparsity": _PRESERVE.value,
        "clusters": _CLUSTERS.value,
        "tflite": _TFLITE.value,
        "integer_io": _INTEGER_IO.value,
        "min_agreement": _MIN_AGREEMENT.value,
        "epochs": _TRAINED_EPOCHS.value,
        "batch_size": _TRAINED_BATCH.value,
        "learning_rate": _TRAINED_RATE.value,
    }


def _rank() -> float | int | str | None:
    """--rank as a number, or as the name of a way to choose it."""
    from tfeffi.errors import BadInput

    if _RANK.value in (None, "evbmf"):
        return _RANK.value
    try:
        rank = float(_RANK.value)
    except ValueError:
        raise BadInput(f"--rank={_RANK.value} is neither a number nor evbmf") from None
    return int(rank) if rank >= 1 and rank.is_integer() else rank


def _ratios() -> tuple[float, ...] | None:
    from tfeffi.errors import BadInput

    try:
        return tuple(map(float, _RATIOS.value)) if _RATIOS.value else None
    except ValueError as error:
        raise BadInput(f"--ratios={','.join(_RATIOS.value)} must be numbers with commas") from error


def _tuning_between(images, validation, teacher):
    """Fine-tunes after each of several steps but the last, whose turn comes with the report's."""
    steps = iter(range(1, _ITERATIONS.value))

    def tune(model):
        step = next(steps, None)
        if step is None:
            return model
        return _finetune(model, images, validation, teacher, f"step_{step}")[0]

    return tune


def _finetune(model, images, validation, teacher, step: str = ""):
    """Trains the small model; also what the report says of it."""
    from tfeffi.compress import by_name
    from tfeffi.train import Settings, fit

    settings = Settings(
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        learning_rate=_RATE.value,
        l2=_L2.value,
        precision=_PRECISION.value,
        loss="reconstruction" if len(model.output_shape) == 4 else "cross_entropy",
        seed=_SEED.value,
    )
    if teacher:
        return _distilled(model, teacher, images)
    held = by_name.holding(_METHOD.value, model)
    workdir = _WORKDIR.value and pathlib.Path(_WORKDIR.value) / step
    trained = fit(model, images, validation, settings, methods=held, workdir=workdir)
    last = trained.history[-1]
    print(", ".join(f"{k} {v:.4g}" for k, v in last.items() if "loss" in k or "accuracy" in k))
    return trained.model, {
        "settings": settings.to_json(),
        "images": len(images),
        "history": trained.history,
        "train_seconds": trained.train_seconds,
        "compile_seconds": trained.compile_seconds,
    }


def _distilled(model, teacher, images):
    """Trains the small model on the answers of a teacher; also what the report says of it."""
    from tfeffi.compress import distill

    given = {"temperature": _TEMPERATURE.value, "alpha": _ALPHA.value}
    made, report = distill(
        model, teacher, images, epochs=_EPOCHS.value, seed=_SEED.value,
        batch_size=_BATCH_SIZE.value, learning_rate=_RATE.value,
        **{key: value for key, value in given.items() if value is not None},
    )  # fmt: skip
    print(f"distilled, loss {report.settings['losses'][-1]:.4g}")
    return made, report.to_json()


def _check_teacher() -> None:
    """BadInput before anything is done, not after a compression of minutes."""
    from tfeffi.errors import BadInput

    if not _TEACHER.value:
        for flag in (_TEMPERATURE, _ALPHA):
            if flag.value is not None:
                raise BadInput(f"--{flag.name} is of distillation; give --finetune_teacher=m.keras")
    elif not _EPOCHS.value:
        raise BadInput("--finetune_teacher needs --finetune_epochs")
    elif not pathlib.Path(_TEACHER.value).is_file():
        raise BadInput(f'there is no model file "{_TEACHER.value}" for --finetune_teacher')
    else:
        for flag in (_VALIDATION, _L2, _PRECISION, _WORKDIR):
            if flag.value != flag.default:
                raise BadInput(f"--{flag.name} does nothing with --finetune_teacher; leave one out")


def _check_tflite() -> None:
    """BadInput for flags that the int8 file would not follow, or that wait for one."""
    from tfeffi.errors import BadInput

    if _TFLITE.value and _EPOCHS.value:
        raise BadInput(
            "--finetune_epochs would train on after --tflite is written; leave one out, or give "
            "the quantization-aware training more --epochs"
        )
    for flag in (_INTEGER_IO, _MIN_AGREEMENT):
        given = flag.value is not None and flag.value is not False
        if _METHOD.value == "tfmot_qat" and not _TFLITE.value and given:
            raise BadInput(f"--{flag.name} is of the file that --tflite=m.tflite writes; give that")


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
