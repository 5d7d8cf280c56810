"""tensorflow-model-optimization for Keras 3 models: `pip install -e '.[tfmot]'`.

The library works on tf_keras only. A Keras 3 model is rebuilt there, trained there, and comes back; the
process keeps its environment and its Keras.
"""

import importlib

_HOMES = {
    "cluster_weights": "wrapping",
    "from_tf_keras": "bridge",
    "prune_magnitude": "wrapping",
    "quantize_aware": "quantization",
    "to_tf_keras": "bridge",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'tfeffi.compress.tfmot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfeffi.compress.tfmot.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
