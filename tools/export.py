"""A Keras model becomes a .tflite that runs on builtin operators only and gives the same outputs.

    tfeffi-export --model=model.keras --output=model.tflite
    tfeffi-export --model=model.keras --output=int8.tflite --quantize=int8 --calibration=cifar10
    tfeffi-export --model=model.keras --output=mixed.tflite --quantize_layer='stem.*=float32' \
        --quantize_layer='.*=dynamic_int4'

Every file is checked against the Keras model before it gets its name, on the images of
--calibration if it is given, which integer activations need; a test split is refused.
"""

from absl import flags

from tfeffi.errors import BadInput
from tfeffi.export import recipes
from tfeffi.tools import app

_MODEL = flags.DEFINE_string("model", None, "the .keras file", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "the .tflite to write; it must not exist", required=True
)
_QUANTIZE = flags.DEFINE_string(
    "quantize",
    "none",
    "none (float32), or " + "; ".join(f"{r.name}: {r.about}" for r in recipes.RECIPES.values()),
)
_LAYERS = flags.DEFINE_multi_string(
    "quantize_layer",
    None,
    "PATTERN=NAME: how the layers are quantized whose whole name the regular expression matches; "
    "several times, the first that matches counts; NAME as in --quantize, or float32",
)
_CALIBRATION = flags.DEFINE_string(
    "calibration",
    None,
    "dataset that integer activations are calibrated on, and every file is compared with Keras on",
)
_SPLIT = flags.DEFINE_string("calibration_split", "train[:500]", "its images; training images only")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "resize the calibration images to this")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where the prepared datasets lie")
_INTEGER_IO = flags.DEFINE_bool(
    "integer_io", False, "integer activations: input and output are integers too"
)
_RANGE = flags.DEFINE_list(
    "value_range", ["0", "1"], "lowest and highest input of the model; calibration outside it warns"
)
_REPRODUCIBLE = flags.DEFINE_bool(
    "reproducible", False, "the same network gives the same bytes, whatever its layers are called"
)
_COMPACT = flags.DEFINE_bool(
    "compact", False, "fewer bytes for the same: no names within the graph, equal vectors once"
)
_VIEWS = flags.DEFINE_string(
    "views",
    "one",
    "flip or flip_and_move: a classifier averages 2 or 6 views, within the file",
)
_INPUT_SHAPE = flags.DEFINE_list(
    "input_shape", None, "HEIGHT,WIDTH,CHANNELS, for a model that leaves its size open"
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "static batch; 0 for a dynamic one")
_MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement",
    None,
    "fraction of the images of --calibration that must keep the class Keras gives them",
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance", None, "difference from Keras allowed, as a fraction of the largest output"
)
_REPORT = flags.DEFINE_string("report", None, "JSON file with what was measured; must not exist")


def main(_):
    """Loads the calibration images, exports, prints, writes."""
    from tfeffi import export, files
    from tfeffi.export.calibration import check_split

    quantize = None if _QUANTIZE.value in ("none", "float32", "") else _QUANTIZE.value
    files.refuse_existing(_OUTPUT.value)
    if _REPORT.value:
        files.refuse_existing(_REPORT.value, "report")
    images, recipe, value_range, input_shape = None, _recipe(), _value_range(), _input_shape()
    calibrated = recipes.check(quantize, recipe, _INTEGER_IO.value)
    if _CALIBRATION.value:
        check_split(_SPLIT.value)
    else:
        _check_unused(calibrated)
    app.import_tensorflow()
    if _CALIBRATION.value:
        from tfeffi import data

        images = data.load(
            _CALIBRATION.value,
            _SPLIT.value,
            data_dir=_DATA_DIR.value,
            image_size=_IMAGE_SIZE.value,
        )
    made = export(
        _MODEL.value,
        _OUTPUT.value,
        quantize=quantize,
        recipe=recipe,
        calibration=images,
        check_with=images,
        integer_io=_INTEGER_IO.value,
        reproducible=_REPRODUCIBLE.value,
        compact=_COMPACT.value,
        views=_VIEWS.value,
        value_range=value_range,
        batch_size=_BATCH_SIZE.value or None,
        input_shape=input_shape,
        min_agreement=_MIN_AGREEMENT.value,
        tolerance=_TOLERANCE.value,
    )
    print(made.table())
    if _REPORT.value:
        files.write_json(_REPORT.value, made.to_json())


def _check_unused(calibrated: str | None):
    """Without --calibration: BadInput if that is needed, or a flag is given that is about it."""
    if calibrated:
        raise BadInput(f"--quantize={calibrated} needs --calibration=DATASET, such as fashion_mini")
    for flag in (_MIN_AGREEMENT, _SPLIT, _IMAGE_SIZE, _DATA_DIR):
        if flag.present:
            raise BadInput(f"--{flag.name} needs --calibration=DATASET, such as fashion_mini")


def _input_shape():
    """The sizes of --input_shape; None without it."""
    if _INPUT_SHAPE.value is None:
        return None
    try:
        sizes = tuple(map(int, _INPUT_SHAPE.value))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        given = ",".join(_INPUT_SHAPE.value)
        raise BadInput(f"--input_shape={given} must be whole numbers from 1, such as 224,224,3")
    return sizes


def _recipe():
    """The pairs of --quantize_layer; None without any."""
    if not _LAYERS.value:
        return None
    for one in _LAYERS.value:
        if "=" not in one:
            raise BadInput(f"--quantize_layer={one} must read like 'PATTERN=NAME'")
    return [tuple(one.rpartition("=")[::2]) for one in _LAYERS.value]


def _value_range():
    try:
        lowest, highest = map(float, _RANGE.value)
    except ValueError:
        given = ",".join(_RANGE.value)
        raise BadInput(f"--value_range={given} must be two numbers, such as -1,1") from None
    if not lowest < highest:
        raise BadInput(f"--value_range={lowest:g},{highest:g}: the first must be the lower one")
    return lowest, highest


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
