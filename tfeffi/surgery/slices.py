"""What an optimizer needs to follow a surgery: the cut of every variable, and its slots likewise."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.surgery import slots
from tfeffi.surgery.rules.base import Cut


@dataclasses.dataclass(frozen=True, eq=False)
class Slices:
    """How each variable of a model was cut.

    Attributes:
        paths: the `path` of every variable; the old and the new model have the same, in the same
            order.
        cuts: the cuts of each variable, in the same order; empty for those that stayed.
        by_name: whether layers were taken out or put in before the cut. An optimizer's slots are
            then found by their names; those of a new variable start afresh, and so do those of
            several variables with one name (nested models) when their number has changed.
    """

    paths: tuple[str, ...]
    cuts: tuple[tuple[Cut, ...], ...]
    by_name: bool = False

    @classmethod
    def of(cls, model: keras.Model, cuts: Mapping[int, tuple[Cut, ...]]) -> "Slices":
        """The slices of a model from the cuts of its variables, by their identity."""
        variables = model.variables
        paths = tuple(variable.path for variable in variables)
        return cls(paths, tuple(cuts.get(id(variable), ()) for variable in variables))

    def take(self, path: str, array, *, share: bool = False, occurrence: int = 0) -> np.ndarray:
        """Cuts an array that belongs to a variable: its mask, its gradient, a slot.

        Args:
            path: the `path` of the variable, "conv2/kernel".
            array: of the shape of the old variable.
            share: whether repeated channels share the value, as weights do.
            occurrence: which of several variables of the same path is meant (nested models).

        Returns:
            The array in the shape of the new variable.

        Raises:
            BadInput: no such variable, or an array of another shape than it had.
        """
        found = [i for i, known in enumerate(self.paths) if known == path]
        if occurrence >= len(found):
            raise BadInput(f'slices: no variable "{path}" in the model')
        array = keras.ops.convert_to_numpy(array)
        for cut in self.cuts[found[occurrence]]:
            array = cut.take(array, share=share)
        return array

    def apply_to(
        self,
        optimizer: keras.optimizers.Optimizer,
        model: keras.Model,
        *,
        make: Callable[[], keras.optimizers.Optimizer] | None = None,
    ) -> keras.optimizers.Optimizer:
        """An optimizer for the new model that goes on where the old one stood.

        Momentum, second moments, averages and accumulated gradients are cut like their variables;
        counters, the learning rate and the loss scale are copied. Where channels were dropped, the
        next step equals that of the old model with them masked; Lamb and Muon, which scale a step
        by the norm or the shape of a whole variable, see the smaller variable. Where channels were
        copied, the slots are those that the new model would have if all gradients so far had been
        its own (see `tfeffi.surgery.slots`).

        Args:
            optimizer: the optimizer of the old model; it is left as it is.
            model: the new model.
            make: makes the new optimizer where `get_config` does not tell all, such as a learning
                rate schedule of your own; by default a copy from the config.

        Returns:
            A new optimizer, built on `model.trainable_variables` if the old one was built.

        Raises:
            BadInput: a slot that has not the shape of its variable (Adafactor's rows and columns,
                which are means over channels that go), an optimizer that its config does not make.

        Example:
            model, slices = reindex(model, {"conv2": [0, 2, 5]})
            optimizer = slices.apply_to(optimizer, model)
        """
        made = make() if make else _again(optimizer)
        if not optimizer.built:
            return made
        made.build(model.trainable_variables)
        old, new = optimizer.variables, made.variables
        if self.by_name:
            old, new = _pairs(old, new)
        owners = list(self._owners(old, model))
        if len(old) != len(new):
            raise BadInput(
                f"slices: the optimizer has {len(old)} variables, for this model it needs "
                f"{len(new)}; was it built on other variables?"
            )
        for source, target, owner in zip(old, new, owners, strict=True):
            value = keras.ops.convert_to_numpy(source)
            if owner is not None and value.ndim and self.cuts[owner]:
                if value.ndim != len(model.variables[owner].shape):
                    raise _foreign(source, optimizer)
                power = slots.power(optimizer, source.name)
                for cut in self.cuts[owner]:
                    if cut.index.max() >= value.shape[cut.axis]:
                        raise _foreign(source, optimizer)
                    value = slots.follow(cut, value, power)
            if tuple(value.shape) != tuple(target.shape):
                raise _foreign(source, optimizer)
            target.assign(value)
        return made

    def _owners(self, slots, model: keras.Model) -> Iterator[int | None]:
        """For each slot, the number of the variable it belongs to, by Keras' naming of slots."""
        trained = {id(variable) for variable in model.trainable_variables}
        places: dict[str, list[int]] = {}
        for i, variable in enumerate(model.variables):
            if id(variable) in trained:
                places.setdefault(variable.path.replace("/", "_"), []).append(i)
        seen: dict[str, int] = {}
        stems = set(places)
        for slot in slots:
            stem = _longest(slot.name, stems)
            if stem is None:
                yield None
                continue
            count = seen.get(slot.name, 0)
            seen[slot.name] = count + 1
            yield places[stem][count % len(places[stem])]


def _pairs(old, new) -> tuple[list, list]:
    """The variables of two optimizers that have one name, side by side."""
    groups = [collections.defaultdict(list), collections.defaultdict(list)]
    for variables, group in zip((old, new), groups, strict=True):
        for variable in variables:
            group[variable.name].append(variable)
    before, after = groups
    same = [name for name in after if len(after[name]) == len(before.get(name, ()))]
    return tuple([v for name in same for v in group[name]] for group in groups)


def _again(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A fresh optimizer from the config of another."""
    try:
        return type(optimizer).from_config(optimizer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise BadInput(
            f"slices: {type(optimizer).__name__} is not made from its own config; give make=, a "
            "function that makes it"
        ) from error


def _foreign(slot, optimizer: keras.optimizers.Optimizer) -> BadInput:
    return BadInput(
        f'slices: the slot "{slot.path}" of {type(optimizer).__name__} does not have the shape of '
        "its variable; make a new optimizer instead"
    )


def _longest(name: str, stems: set[str]) -> str | None:
    """The longest of the stems that `name` continues with an underscore."""
    end = len(name)
    while (end := name.rfind("_", 0, end)) > 0:
        if name[:end] in stems:
            return name[:end]
    return None
