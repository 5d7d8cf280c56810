"""Prune a dense layer to as few units as a tolerance allows: removal, merging and refit in turn.

What counting activations cannot see: units that say the same as another, or together something
linear, and weights that would do with fewer units if they were solved for anew.
"""

from typing import Any

import keras
import numpy as np

from tfeffi.analysis.cost import cost
from tfeffi.compress.prune import elimination
from tfeffi.compress.prune.activity import batches
from tfeffi.compress.prune.elimination import Units
from tfeffi.compress.report import Change, Report
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, reindex
from tfeffi.surgery.forward import Forward
from tfeffi.surgery.graph import Call

_PASSING = ("Dropout", "Activation", "ReLU")


def prune_to_tolerance(
    model: keras.Model,
    layer: str,
    data: Any,
    targets: np.ndarray | None = None,
    *,
    tolerance: float,
    merge: bool = True,
    samples: int = 2048,
    seed: int = 0,
) -> tuple[keras.Model, Report]:
    """Leaves a dense layer as few units as keep the mean squared error within the tolerance.

    Backward elimination: the unit that the others can best stand for goes, the weights that read
    them are solved for by least squares, and if that does not do, both layers' weights are polished
    by Gauss-Newton steps; this repeats until no unit can go. ReLU units may be merged: those that are
    active on all of the data form a linear map, for which as many units as it has rank are enough,
    and a unit is replaced by its mirror image where that saves one (relu(z) = relu(−z) + z).

    The arithmetic is float64; the model's weights are of its own dtype.

    Args:
        model: a functional or built Sequential model; it is left as it is.
        layer: the name of a Dense layer that one other Dense layer reads, directly or through an
            Activation, ReLU or Dropout layer; both have biases.
        data: inputs of the model: a tf.data.Dataset of batches, an array, or `tfeffi.data.Images`.
        targets: (n, outputs) what the model should answer, if the reading layer is its output and
            linear. If None, what the reading layer sums up to now, before its activation, is to be
            kept.
        tolerance: the highest mean squared error, over examples and outputs, of the reading layer.
        merge: whether ReLU units may be merged; else they are only removed and refitted.
        samples: so many examples, drawn at random, are fitted to; more are better and slower.
        seed: of the draw.

    Returns:
        The model with fewer units and the report; `report.settings` has "mse_before" and "mse", both
        measured over all of the data.

    Raises:
        BadInput: a layer that is not there or not as above, an activation whose derivative is not
            known, targets of another shape, or a tolerance that all units together do not reach.

    Example:
        small, report = prune_to_tolerance(model, "hidden", x, y, tolerance=1e-6)
    """
    _check_numbers(tolerance, samples)
    coupling = Coupling.of(model)
    pair = _Pair(coupling, layer, targets is not None)
    x, y = pair.problem(data, targets)
    chosen = np.random.default_rng(seed).permutation(len(x))[:samples]
    units = pair.units(merge)
    found = elimination.eliminate(units, x[chosen], y[chosen], tolerance / 2)
    if found is None:
        reached = elimination.refit(units, x[chosen], y[chosen]).loss(x[chosen], y[chosen])
        raise BadInput(
            f"prune_to_tolerance: tolerance={tolerance:g} is not reached by all {len(units)} units of "
            f'"{layer}", refitted to {reached:.3g}; train on, allow merge=True, or a higher one'
        )
    if len(found) > len(units):
        found = elimination.refit(units, x[chosen], y[chosen])
    small = pair.with_units(found)
    mse = found.loss(x, y)
    settings = {"layer": layer, "tolerance": tolerance, "merge": merge, "samples": samples}
    settings |= {"seed": seed, "mse_before": units.loss(x, y), "mse": mse}
    before, after = (m.get_layer(layer).units for m in (model, small))
    changed = (Change(layer, before, after),) if before != after else ()
    return small, Report("prune_to_tolerance", cost(model), cost(small), changed, (), settings)


class _Pair:
    """A dense layer and the one that reads it, in a labelled model."""

    def __init__(self, coupling: Coupling, layer: str, to_targets: bool):
        self.coupling, self.layer, self.to_targets = coupling, layer, to_targets
        calls = {}
        for call in coupling.graph.calls:
            calls.setdefault(call.layer.path, []).append(call)
        if layer not in calls:
            raise _refused(layer, f"is not in the model; {near(layer, calls)}")
        if len(calls[layer]) > 1 or calls[layer][0].layer.kind != "Dense":
            raise _refused(layer, "is not a Dense layer that is used once")
        self.first = calls[layer][0]
        group = next(g for g in coupling.groups if layer in g.writers)
        if group.pinned:
            raise _refused(layer, f"has units that must stay: {group.pinned}")
        self.activation, self.second = self._follow(self.first)
        elimination.check_activation(self.activation)
        if not (self.first.layer.config["use_bias"] and self.second.layer.config["use_bias"]):
            raise _refused(layer, "or the layer that reads it has no bias, which refitting needs")
        if to_targets and (
            self.second.outputs[0] not in coupling.graph.outputs
            or self.second.layer.config["activation"] != "linear"
        ):
            raise _refused(layer, "is not read by a linear output layer; leave out the targets")

    def _follow(self, call: Call) -> tuple[str, Call]:
        """The activation between the two layers, and the call of the second."""
        activation = call.layer.config["activation"]
        while True:
            tensor = call.outputs[0]
            readers = [c for c in self.coupling.graph.calls if tensor in c.inputs]
            if len(readers) != 1:
                raise _refused(self.layer, f"is read in {len(readers)} places, not by one layer")
            call = readers[0]
            kind, config = call.layer.kind, call.layer.config
            if kind == "Dense":
                return activation, call
            plain = kind != "ReLU" or not (
                config["max_value"] or config["negative_slope"] or config["threshold"]
            )
            if kind not in _PASSING or not plain:
                raise _refused(self.layer, f"is read by {call.layer}, not by a Dense layer")
            if kind != "Dropout":
                if activation != "linear":
                    raise _refused(self.layer, "has two activations in a row")
                activation = "relu" if kind == "ReLU" else config["activation"]

    def units(self, merge: bool) -> Units:
        """The two layers' weights in float64."""
        (w, b), (v, c) = (
            [keras.ops.convert_to_numpy(one).astype(np.float64) for one in call.layer.live.weights]
            for call in (self.first, self.second)
        )
        linear = merge and self.activation == "relu"
        return Units(w, b, v, np.zeros((len(w), len(c))), c, self.activation, linear)

    def problem(self, data, targets) -> tuple[np.ndarray, np.ndarray]:
        """What the first layer reads and what the second should give, (n, inputs), (n, outputs)."""
        graph, tensor = self.coupling.graph, self.first.inputs[0]
        forward = Forward(graph, [tensor])
        found = [
            np.asarray(forward(inputs)[0], np.float64)
            for inputs in batches(graph.model, data, "prune_to_tolerance")
        ]
        if not found:
            raise BadInput("prune_to_tolerance: the data is empty; give it at least one batch")
        x = np.concatenate([one.reshape(-1, one.shape[-1]) for one in found])
        if not self.to_targets:
            return x, self.units(False)(x)
        y = np.asarray(targets, np.float64)
        wanted = (len(x), self.second.layer.config["units"])
        if y.shape != wanted:
            raise BadInput(f"prune_to_tolerance: targets have shape {y.shape}, need {wanted}")
        return x, y

    def with_units(self, units: Units) -> keras.Model:
        """The model with these units in place of its own; one that is all zero where there is none."""
        if not len(units):
            zero = np.zeros((units.w.shape[0], 1)), np.zeros(1), np.zeros((1, units.v.shape[1]))
            units = Units(*zero, units.a, units.c, units.activation)
        small, _ = reindex(self.coupling.graph.model, {self.layer: range(len(units))})
        calls = Coupling.of(small).graph.layers
        for call, kernel, bias in (
            (self.first, units.w, units.b), (self.second, units.v, units.c),
        ):  # fmt: skip
            live = calls[call.layer.path].live
            live.kernel.assign(kernel)
            live.bias.assign(bias)
        return small


def _refused(layer: str, why: str) -> BadInput:
    return BadInput(f'prune_to_tolerance: layer "{layer}" {why}')


def _check_numbers(tolerance: float, samples: int) -> None:
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise BadInput(f"prune_to_tolerance: tolerance={tolerance!r}; give a number above 0")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise BadInput(f"prune_to_tolerance: samples={samples!r}; give a whole number from 1 on")
