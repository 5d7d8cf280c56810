"""The places at which a method may act on a training run, and what it keeps."""

from collections.abc import Iterable
from typing import Any

CHANGE_CHANNELS = (
    "net2net",
    "prune_train",
)  # what is kept by a weight's place does not survive them


def places(model) -> list[int]:
    """Where each trainable variable is among all: that stays when a layer is frozen or rebuilt."""
    place = {id(variable): number for number, variable in enumerate(model.variables)}
    return [place[id(variable)] for variable in model.trainable_variables]


class NoEffectWarning(UserWarning):
    """A method found nothing to do."""


class Method:
    """Does nothing; subclass it and override what you need.

    `run` is the `tfeffi.train.state.Run` of the training: its `model`, `optimizer`, `settings`,
    `epoch`, `step` and the `scalars` that are logged. What a method keeps goes
    through `state` and `restore`, so that a killed run resumes exactly.
    """

    def on_model(self, run) -> None:
        """Once, before the optimizer is built; may replace `run.model`."""

    def extra_loss(self, run):
        """A scalar added to the loss, traced, float32; None adds nothing."""
        return None

    def on_gradients(self, run, gradients: list) -> list:
        """Traced: the unscaled, reduced gradients of `run.model.trainable_variables`, in order."""
        return gradients

    def before_step(self, run) -> None:
        """Traced, before the update, across replicas; may assign variables. Not before skipped steps."""

    def after_step(self, run) -> None:
        """Traced, after the update, across replicas; may assign variables. Not after skipped steps."""

    def pauses(self, run) -> Iterable[int]:
        """After how many steps of the present epoch `on_pause` is called, from 0 to all but one.

        Asked more than once, and anew where a killed run goes on: let it depend on what is restored."""
        return ()

    def on_pause(self, run) -> None:
        """Eager, before a step; may change the model of the run (`run.adopt`) and nothing else of it."""

    def on_epoch_end(self, run) -> None:
        """Eager, before validation; may change the model (`run.adopt`), the batch
        (`run.set_batch_size`), the size of the images (`run.image_size`), the optimizer and the
        settings (`run.optimizer`, `run.settings`)."""

    @property
    def name(self) -> str:
        """Its folder in tfeffi/methods, or its class."""
        room, _, rest = type(self).__module__.partition("tfeffi.methods.")
        return rest.partition(".")[0] if rest and not room else type(self).__name__

    def excludes(self) -> dict[str, str]:
        """The names of the methods that cannot act on the same run, and why."""
        return {}

    @property
    def variables(self) -> tuple:
        """The tf.Variables that the traced hooks change: saved and restored with the run."""
        return ()

    def settings(self) -> dict[str, Any]:
        """What tells it from another of its class, as JSON values: a run is resumed if it is equal."""
        return {}

    def state(self) -> dict[str, Any]:
        """What must survive a kill, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave: after the run has its model, before its variables' values;
        methods are asked in their order."""
