"""tensorflow-model-optimization and tf_keras, imported without a trace in the process.

The library sets TF_USE_LEGACY_KERAS when it is imported, and whatever asks for `tf.keras` for the first
time after that gets Keras 2. Here `tf.keras` is settled first, and the environment put back.
"""

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator

import keras  # noqa: F401  Keras sets variables of its own on import; they are not the library's
import tensorflow as tf

from tfeffi import quiet
from tfeffi.errors import BadInput


class MissingExtra(BadInput):
    """The packages of the extra `tfmot` are not installed."""


@functools.cache
def tfmot():
    """The module tensorflow_model_optimization.

    Raises:
        MissingExtra: it is not installed.
    """
    tf.keras.__name__  # noqa: B018  a lazy module: this loads the Keras that the user's process has
    try:
        with _same_environment(), quiet.native_code():
            import tensorflow_model_optimization
    except ImportError as error:
        raise MissingExtra(
            f"tfmot: {error.name or error} is not installed; pip install -e '.[tfmot]' in tfeffi's folder"
        ) from error
    return tensorflow_model_optimization


@functools.cache
def tf_keras():
    """The module tf_keras: Keras 2, beside Keras 3 in one process.

    Raises:
        MissingExtra: it is not installed.
    """
    tfmot()
    import tf_keras

    return tf_keras


def clustering_with_zeros():
    """Its clustering that can leave zeros alone: only here, says the library's own guide."""
    name = "tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster"
    tfmot()
    return importlib.import_module(name)


def is_clustering(layer) -> bool:
    """Whether a layer is a wrapper of its clustering: the kernel in it is not yet clustered."""
    return isinstance(layer, _clustering_wrapper())


@functools.cache
def _clustering_wrapper() -> type:
    name = "tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper"
    tfmot()
    return importlib.import_module(name).ClusterWeights


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
