"""`prune_magnitude` and `cluster_weights`: kernels with zeros or few values, trained into them."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfeffi.analysis.cost import cost
from tfeffi.compress import keeping, kernels
from tfeffi.compress.report import Change, Report, Skipped
from tfeffi.compress.tfmot import bridge as bridging
from tfeffi.compress.tfmot import translation
from tfeffi.compress.tfmot.library import clustering_with_zeros, tf_keras, tfmot
from tfeffi.compress.tfmot.training import Examples, Training, steps, train
from tfeffi.errors import BadInput

_KINDS = ("Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Dense")
_UPDATES = 20  # how often the mask is drawn anew on the way to the sparsity
_RAMP = 0.5  # of the training; the rest of it recovers


def prune_magnitude(
    model: keras.Model,
    training_data: Any,
    *,
    sparsity: float = 0.5,
    epochs: int = 2,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains the smallest weights of each kernel to zero, ever more of them: tfmot's magnitude pruning.

    The network stays as large and as fast. Shared values of `cluster` stay shared; what is zero
    already stays zero.

    Args:
        model: a functional or built Sequential Keras 3 model; it is left as it is.
        training_data: labelled training images: `tfeffi.data.Images`, arrays (images, labels), or a
            tf.data.Dataset of batches.
        sparsity: the fraction of each kernel that is zero at the end, in [0, 1). Half of the training
            is the way there, a cubic polynomial.
        epochs, batch_size, learning_rate, seed: see `training.Training`.
        ignore: names of layers to leave alone.

    Returns:
        An ordinary Keras 3 model with zeros in its kernels, and the report.

    Raises:
        BadInput: a number out of range, data without labels, a layer that cannot cross.
        MissingExtra: tensorflow-model-optimization is not installed.

    Example:
        sparse, report = prune_magnitude(model, images, sparsity=0.8)

    Source: Zhu & Gupta 2017, arXiv 1710.01878.
    """
    real = isinstance(sparsity, numbers.Real) and not isinstance(sparsity, bool)
    if not real or not 0 <= sparsity < 1:
        raise BadInput(f"tfmot: sparsity={sparsity!r} must be a fraction in [0, 1), such as 0.8")
    training = Training(epochs, batch_size, learning_rate, seed)
    examples = Examples.of(model, training_data, batch_size)
    count = steps(examples, training)
    library = tfmot().sparsity.keras
    end = max(1, int(_RAMP * count))
    schedule = library.PolynomialDecay(0.0, float(sparsity), 0, end, 3, max(1, end // _UPDATES))
    callback = library.UpdatePruningStep()

    def work(twin):
        callback.set_model(twin)
        callback.on_train_begin()
        losses = train(twin, examples, training, after_epoch=lambda: callback.on_epoch_end(None))
        return losses, library.strip_pruning(twin)

    return _wrapped(
        model, "tfmot_prune", lambda one: library.prune_low_magnitude(one, schedule), work, ignore,
        {"sparsity": float(sparsity)},
    )  # fmt: skip


def cluster_weights(
    model: keras.Model,
    training_data: Any,
    *,
    clusters: int = 16,
    preserve_sparsity: bool = True,
    epochs: int = 2,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Trains each kernel to few different values: tfmot's weight clustering.

    The network stays as large and as fast; what is zipped gets smaller. In kernels that are left alone,
    zeros and shared values stay.

    Args:
        model, training_data, ignore: as for `prune_magnitude`.
        clusters: how many values a kernel may have, from 2 on; zero counts as one of them.
        preserve_sparsity: whether zeros stay zero, where a kernel has any.
        epochs, batch_size, learning_rate, seed: see `training.Training`.

    Returns:
        An ordinary Keras 3 model with at most that many values in each kernel, and the report.

    Raises:
        BadInput: a number out of range, data without labels, a layer that cannot cross.
        MissingExtra: tensorflow-model-optimization is not installed.

    Example:
        shared, report = cluster_weights(model, images, clusters=16)

    Source: Han et al. 2015, "Deep Compression", arXiv 1510.00149, section 3.
    """
    whole = isinstance(clusters, numbers.Integral) and not isinstance(clusters, bool)
    if not whole or clusters < 2:
        raise BadInput(f"tfmot: clusters={clusters!r} must be a whole number from 2 on")
    training = Training(epochs, batch_size, learning_rate, seed)
    examples = Examples.of(model, training_data, batch_size)
    library = tfmot().clustering.keras
    linear = library.CentroidInitialization.LINEAR

    def wrap(layer):
        if layer.kernel.shape.num_elements() <= clusters:
            return layer  # it has no more values than that
        keep = preserve_sparsity and not layer.kernel.numpy().all()
        wrapper = clustering_with_zeros() if keep else library
        more = {"preserve_sparsity": True} if keep else {}
        return wrapper.cluster_weights(
            layer, number_of_clusters=int(clusters), cluster_centroids_init=linear, **more
        )

    def work(twin):
        losses = train(twin, examples, training)
        return losses, library.strip_clustering(twin)

    settings = {"clusters": int(clusters), "preserve_sparsity": preserve_sparsity}
    return _wrapped(model, "tfmot_cluster", wrap, work, ignore, settings)


def _wrapped(
    model, method: str, wrap: Callable, work: Callable, ignore: Sequence[str], settings: dict
) -> tuple[keras.Model, Report]:
    """Over the bridge, wrapped, trained, unwrapped and back."""
    before, skipped = kernels.find(model, ignore, method)
    bridge = bridging.build(model)
    ignored = {name for one in skipped for name in bridge.layers(one.layer)}
    twin = bridge.model
    able = {one.name: one for one in twin.layers if type(one).__name__ in _KINDS}
    frozen = {name for name, one in able.items() if not one.trainable_weights}
    chosen = able.keys() - frozen - ignored
    with tf_keras().utils.custom_object_scope(translation.custom_objects()):
        wrapped = tf_keras().models.clone_model(
            twin, clone_function=lambda one: wrap(one) if one.name in chosen else one
        )
        losses, trained = work(wrapped)
    made = bridging.back(bridge, trained)
    after = kernels.find(made, (), method)[0]
    for path in [k.layer for k in before if not chosen & bridge.layers(k.layer)]:
        still = "is not trainable" if frozen & bridge.layers(path) else "tfmot wraps no such layer"
        skipped.append(Skipped(path, still))
    settings = {
        **settings, "losses": losses, "zipped_bytes_before": kernels.zipped_bytes(model),
        "zipped_bytes": kernels.zipped_bytes(made),
    }  # fmt: skip
    note = " ".join(filter(None, (keeping.lost(before, after), kernels.note(settings))))
    return made, Report(
        method, cost(model), cost(made), tuple(_changes(before, after)), tuple(skipped), settings,
        note=note,
    )  # fmt: skip


def _changes(before, after):
    now = {kernel.name: kernel for kernel in after}
    for kernel in before:
        yield Change(kernel.name, kernels.described(kernel), kernels.described(now[kernel.name]))
