"""Runs a model call by call, so that any tensor inside can be looked at, nested models included."""

import inspect
from collections.abc import Callable, Sequence

import keras

from tfeffi.surgery.graph import Call, Graph, fill


class Forward:
    """The inference pass of a labelled model, tensor by tensor.

    Args:
        graph: the model.
        wanted: the tensors to give back.

    Example:
        forward = Forward(graph, [tensor])
        [value] = forward([images])
    """

    def __init__(self, graph: Graph, wanted: Sequence[int]):
        self.graph, self.wanted = graph, tuple(wanted)
        self._operations = {
            path: keras.saving.deserialize_keras_object(
                {key: value for key, value in layer.entry.items() if key != "inbound_nodes"}
            )
            for path, layer in graph.layers.items()
            if layer.live is None
        }

    def __call__(self, inputs: Sequence, entering: Callable[[Call, list], list] | None = None):
        """The wanted tensors for the model's inputs, with `training=False` throughout.

        Args:
            inputs: in the order of `model.inputs`.
            entering: `(call, tensors) -> tensors`: what a call is given instead.

        Returns:
            The wanted tensors, a list.
        """
        values = dict(zip(self.graph.inputs, inputs, strict=True))
        missing = set(self.wanted) - values.keys()
        for call in self.graph.calls:
            if not missing:
                break
            if call.layer.kind == "InputLayer":
                if call.inputs:  # of a nested model: what it is called on
                    values[call.outputs[0]] = values[call.inputs[0]]
            else:
                given = [values[tensor] for tensor in call.inputs]
                results = self._run(call, entering(call, given) if entering else given)
                values.update(zip(call.outputs, results, strict=False))
            missing -= set(call.outputs)
        return [values[tensor] for tensor in self.wanted]

    def _run(self, call: Call, inputs: list) -> list:
        layer = call.layer.live or self._operations[call.layer.path]
        args, kwargs = fill(call.arguments, inputs)
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = {**kwargs, "training": False}
        return keras.tree.flatten(layer(*args, **kwargs))
