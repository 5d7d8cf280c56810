"""A Keras model becomes a .tflite that runs on builtin operators only and gives the same outputs.

    tfeffi-export --model=model.keras --output=model.tflite
    tfeffi-export --model=model.keras --output=int8.tflite --quantize=int8 --calibration=cifar10

Every file is checked against the Keras model before it gets its name. Full int8 is calibrated on
training images; a test split is refused.
"""

from absl import flags

from tfeffi.tools import app

_MODEL = flags.DEFINE_string("model", None, "the .keras file", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "the .tflite to write; it must not exist", required=True
)
_QUANTIZE = flags.DEFINE_string(
    "quantize", "none", "none (float32), float16, dynamic (int8 weights) or int8 (all of it)"
)
_CALIBRATION = flags.DEFINE_string("calibration", None, "dataset that int8 is calibrated on")
_SPLIT = flags.DEFINE_string("calibration_split", "train[:500]", "its images; training images only")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "resize the calibration images to this")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where the prepared datasets lie")
_INTEGER_IO = flags.DEFINE_bool("integer_io", False, "int8: input and output are int8 too")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "static batch; 0 for a dynamic one")
_MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement", None, "fraction of images that must keep the class Keras gives them"
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance", None, "difference from Keras allowed, as a fraction of the largest output"
)
_REPORT = flags.DEFINE_string("report", None, "JSON file with what was measured; must not exist")


def main(_):
    """Loads the calibration images, exports, prints, writes."""
    from tfeffi import export, files
    from tfeffi.errors import BadInput
    from tfeffi.export.calibration import check_split

    quantize = None if _QUANTIZE.value in ("none", "float32", "") else _QUANTIZE.value
    files.refuse_existing(_OUTPUT.value)
    if _REPORT.value:
        files.refuse_existing(_REPORT.value, "report")
    images = None
    if quantize == "int8":
        if not _CALIBRATION.value:
            raise BadInput("--quantize=int8 needs --calibration=DATASET, such as fashion_mini")
        check_split(_SPLIT.value)
    app.import_tensorflow()
    if quantize == "int8":
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
        calibration=images,
        integer_io=_INTEGER_IO.value,
        batch_size=_BATCH_SIZE.value or None,
        min_agreement=_MIN_AGREEMENT.value,
        tolerance=_TOLERANCE.value,
    )
    print(made.table())
    if _REPORT.value:
        files.write_json(_REPORT.value, made.to_json())


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
