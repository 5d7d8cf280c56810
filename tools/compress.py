"""Makes a trained Keras model smaller: prunes channels, factorizes or replaces layers, fine-tunes.

    tfeffi-compress --model=m.keras --output=s.keras --method=prune --budget_macs=0.5 \\
        --dataset=fashion_mini --finetune_epochs=4
    tfeffi-compress --model=m.keras --output=s.keras --method=factorize --energy=0.9
    tfeffi-compress --model=m.keras --output=s.keras --method=separable

Prints what changed and what was left alone, and why; writes an ordinary .keras file and the report as
JSON beside it.
"""

import pathlib

from absl import flags

from tfeffi.tools import app

_MODEL = flags.DEFINE_string("model", None, "the trained .keras file", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "the .keras to write; must not exist", required=True)
_METHOD = flags.DEFINE_string(
    "method",
    None,
    "prune; factorize (channel and spatial force the split); separable or 1d (replace convolutions)",
    required=True,
)
_REPORT = flags.DEFINE_string(
    "report", None, "the JSON report to write; default: OUTPUT with .json for .keras"
)

_MACS = flags.DEFINE_float(
    "budget_macs", None, "multiply-adds allowed: up to 1 a fraction of the model's, else a number"
)
_PARAMS = flags.DEFINE_float("budget_params", None, "parameters allowed, likewise")
_BYTES = flags.DEFINE_float("budget_bytes", None, "bytes of float32 weights allowed, likewise")
_IGNORE = flags.DEFINE_list("ignore", [], "layers to leave alone, with commas between")
_MULTIPLE_OF = flags.DEFINE_integer(
    "multiple_of", None, "round widths and ranks up to it; default 8"
)

_IMPORTANCE = flags.DEFINE_string(
    "importance", None, "prune: activations (default), apoz, mean_activation, l1, l2, bn_scale, ..."
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "prune: channels scored at most this go")
_ENERGY = flags.DEFINE_float(
    "energy",
    None,
    "factorize: the share of the kernels' energy to keep; default 0.95 or the budget",
)
_RANK = flags.DEFINE_float(
    "rank",
    None,
    "factorize: share of the full rank. separable: filters per channel. 1d: channels between, or "
    "below 1 a share of break-even",
)
_INITIALIZE = flags.DEFINE_string(
    "initialize", None, "separable, 1d: svd (closest to the trained kernel; default) or random"
)
_MID_ACTIVATION = flags.DEFINE_string(
    "mid_activation", None, "separable, 1d: the activation in between, such as relu; default none"
)

_DATASET = flags.DEFINE_string(
    "dataset", None, "images for prune (activations), factorize (data-aware) and fine-tuning"
)
_SPLIT = flags.DEFINE_string("split", "train", "of the dataset; training images only")
_VALIDATION = flags.DEFINE_string("validation_split", None, "images to validate fine-tuning on")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where the prepared datasets lie")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "resize the images to this")
_MEASURED = flags.DEFINE_integer(
    "measured_images", 1000, "how many of the images to measure activations or responses on"
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
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "where fine-tuning keeps its checkpoint: a killed run resumes there"
)
_SEED = flags.DEFINE_integer("seed", 0, "of fresh weights and of fine-tuning")


def main(_):
    """Compresses, fine-tunes if asked to, prints, writes."""
    from tfeffi import files
    from tfeffi.compress import by_name

    by_name.check(_METHOD.value)
    report_path, arguments = _report_path(), _arguments()
    images, validation = _images()

    app.import_tensorflow()  # last: it takes seconds, and most mistakes have shown by now
    import keras

    from tfeffi import models

    keras.utils.set_random_seed(_SEED.value)
    model = models.load(_MODEL.value)
    if images is not None and _DATA_AWARE.value and "data" in by_name.takes(_METHOD.value):
        arguments["data"] = images.take(_MEASURED.value)
    small, report = by_name.compress(model, _METHOD.value, **arguments)
    print(report.table(), flush=True)
    made = report.to_json()
    if _EPOCHS.value:
        small, made["finetune"] = _finetune(small, images, validation)
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
    return report


def _images():
    """The training and validation images, or None."""
    from tfeffi import data
    from tfeffi.errors import BadInput
    from tfeffi.export.calibration import check_split

    if not _DATASET.value:
        if _EPOCHS.value:
            raise BadInput("--finetune_epochs needs --dataset=NAME, such as fashion_mini")
        return None, None
    check_split(_SPLIT.value, "compression")
    splits = (_SPLIT.value, _VALIDATION.value)
    arguments = {"data_dir": _DATA_DIR.value, "image_size": _IMAGE_SIZE.value}
    return tuple(data.load(_DATASET.value, s, **arguments) if s else None for s in splits)


def _arguments() -> dict:
    """The flags as arguments of the method; None where a flag is not given."""
    from tfeffi.compress import Budget

    budget = {"macs": _MACS.value, "params": _PARAMS.value, "bytes": _BYTES.value}
    rank = _RANK.value
    if rank is not None and rank >= 1 and rank.is_integer():
        rank = int(rank)
    factorizes = _METHOD.value in ("factorize", "channel", "spatial")
    return {
        "budget": Budget(**budget) if any(v is not None for v in budget.values()) else None,
        "ignore": tuple(_IGNORE.value),
        "multiple_of": _MULTIPLE_OF.value,
        "importance": _IMPORTANCE.value,
        "threshold": _THRESHOLD.value,
        "energy": _ENERGY.value,
        "ranks" if factorizes else "rank": rank,
        "initialize": _INITIALIZE.value,
        "mid_activation": _MID_ACTIVATION.value,
    }


def _finetune(model, images, validation):
    """Trains the small model; also what the report says of it."""
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
    trained = fit(model, images, validation, settings, workdir=_WORKDIR.value)
    last = trained.history[-1]
    print(", ".join(f"{k} {v:.4g}" for k, v in last.items() if "loss" in k or "accuracy" in k))
    return trained.model, {
        "settings": settings.to_json(),
        "images": len(images),
        "history": trained.history,
        "train_seconds": trained.train_seconds,
        "compile_seconds": trained.compile_seconds,
    }


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
