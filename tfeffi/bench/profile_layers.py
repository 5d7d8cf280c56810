"""The Keras layers that an operator of a .tflite came from, read from the names of its tensors.

The converter names a tensor after the calls that were made one operator:
"model_1/relu_1/Relu;model_1/conv_1/convolution". A number is behind every name, whether it is the
layer's first call or a later one.
"""

import re
from collections.abc import Collection, Sequence

_CALL = re.compile(r"_\d+$")
_QUANTIZED = "quant_"  # before a layer that was trained with rounding
_MULTIPLIES = re.compile(r"conv|depthwise|matmul|einsum", re.IGNORECASE)


def layers_of(names: Sequence[str], known: Collection[str] | None = None) -> tuple[str, ...]:
    """The layers of an operator, the one that multiplies first.

    Args:
        names: of the tensor that it writes, and of the constants that are its own.
        known: the layers of the model, those in nested models as "encoder/conv"; without it every
            name that looks like a layer's counts.

    Returns:
        Names of layers; none where no name tells.

    Example:
        layers_of(["model_1/relu_1/Relu;model_1/conv_1/convolution"])  # ("conv", "relu")
    """
    for name in names:  # what it writes tells most; outputs of the model have names of their own
        calls = [call for call in name.split(";") if call]
        calls.sort(key=lambda call: not _MULTIPLIES.search(call.rpartition("/")[2]))
        found = [layer for call in calls if (layer := _layer(call, known))]
        if found:
            return tuple(dict.fromkeys(found))
    return ()


def _layer(call: str, known: Collection[str] | None) -> str | None:
    parts = [_CALL.sub("", part) for part in call.split("/")[1:-1]]  # without model and operation
    if known is None:
        return "/".join(parts) or None
    for start in (0, 1):  # within a model that looks several times, the layers are of its only one
        for end in range(len(parts), start, -1):  # a layer may have scopes of its own below it
            if (path := "/".join(parts[start:end])) in known:
                return path
    bridged = {_QUANTIZED + name.replace("/", "_"): name for name in known}
    scopes = call.split("/")  # of tf_keras, which puts no number behind a name
    return next((bridged[scope] for scope in scopes if scope in bridged), None)
