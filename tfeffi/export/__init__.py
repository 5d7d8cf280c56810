"""Keras to LiteRT: in float32 or fewer bits, and a contract that is checked on every file.

`tfeffi.export` is this room and also what one does in it: `tfeffi.export(model, "m.tflite")`.

    exporter.py      export(): convert, check, put the file in its place
    recipes.py       the ways to quantize, by name; record.py: what is known of a finished file
    convert.py       Keras -> flatbuffer, in float32 and inference mode
    quantizer.py     flatbuffer -> fewer bits, operator by operator; plan.py says which
    layers.py        which Keras layer an operator computes
    calibration.py   the images that integer activations are calibrated on
    contract.py      what every exported file must keep; samples.py compares it with Keras
    flatbuffer.py    what is inside a .tflite, read without running it; steps.py, one by one
    litert.py        run a .tflite in a process of its own
"""

import importlib
import sys
import types

_HOME = {
    "Exported": "record",
    "ExportError": "contract",
    "CalibrationWarning": "calibration",
    "ModelError": "litert",
    "export": "exporter",
}
__all__ = sorted(_HOME)


class _Room(types.ModuleType):
    """A package that can be called.

    `import tfeffi.export.litert` makes Python set the attribute `export` of `tfeffi` to this
    package, whatever stood there before. So the package itself has to be the function.
    """

    def __call__(self, *args, **kwargs):
        """See `tfeffi.export.exporter.export`."""
        return self.export(*args, **kwargs)

    def __getattr__(self, name: str):  # TensorFlow takes seconds to load, and the bench needs none
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{self.__name__}.{_HOME[name]}"), name)


sys.modules[__name__].__class__ = _Room
