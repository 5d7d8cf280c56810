"""The group lasso R(W): a norm for every channel that a kernel makes or reads."""

import collections
import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput, near
from tfeffi.surgery import Coupling, kernels
from tfeffi.surgery.graph import Graph

WEIGHTINGS = ("equal", "size", "macs")

FLOOR = 1e-8  # under the root, so that a group of zeros has a gradient


def group_squares(kernel, axis: int, groups: np.ndarray | None = None):
    """Σw² of the weights at each position of an axis.

    Args:
        kernel: any shape.
        axis: of the channels.
        groups: (n,) the number of the group of each position; None: each is its own.

    Returns:
        float32 (groups,).

    Example:
        group_squares([[3.0, 0.0], [4.0, 0.0]], axis=0)  # [9, 16]
    """
    values = ops.square(ops.cast(kernel, "float32"))
    squares = ops.sum(values, axis=[i for i in range(len(values.shape)) if i != axis])
    if groups is None:
        return squares
    return ops.segment_sum(squares, groups, num_segments=int(groups.max()) + 1)


def group_norms(kernel, axis: int, groups: np.ndarray | None = None):
    """√(Σw² + 1e-8) of the weights at each position of an axis; the arguments of `group_squares`."""
    return ops.sqrt(group_squares(kernel, axis, groups) + FLOOR)


def shrink_groups(kernel, axis: int, by, groups: np.ndarray | None = None):
    """The proximal step: W_g ← max(0, 1 − by/‖W_g‖)·W_g.

    Args:
        kernel: any shape, float32.
        axis: of the channels.
        by: how much shorter each group becomes: learning rate times penalty; a number, or (groups,).
        groups: (n,) the number of the group of each position; None: each is its own.

    Returns:
        The kernel, in which a group of a norm of `by` or less is exactly zero.

    Example:
        shrink_groups(ops.array([[3.0, 0.0], [4.0, 0.0]]), axis=0, by=3.5)  # [[0, 0], [0.5, 0]]

    Source: Parikh and Boyd 2014, "Proximal algorithms", section 6.5.4.
    """
    norms = ops.sqrt(group_squares(kernel, axis, groups))
    return _scaled(kernel, axis, ops.maximum(0.0, 1.0 - by / ops.maximum(norms, 1e-30)), groups)


def _scaled(kernel, axis: int, by, groups: np.ndarray | None):
    """A kernel whose groups are multiplied by (groups,)."""
    shape = [1] * len(kernel.shape)
    shape[axis] = -1
    return kernel * ops.reshape(by if groups is None else ops.take(by, groups), shape)


def penalty_from_ratio(cross_entropy: float, lasso: float, ratio: float) -> float:
    """λ from the lasso penalty ratio: LPR = λR / (CE + λR), so λ = LPR·CE / ((1 − LPR)·R).

    Args:
        cross_entropy: the loss CE without the penalty.
        lasso: R(W).
        ratio: LPR, in (0, 1).

    Raises:
        BadInput: a ratio outside of (0, 1); a model that has nothing to penalise.

    Example:
        penalty_from_ratio(2.3026, 12.0, 0.2)  # 0.047971

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, equation 3).
    """
    check_ratio(ratio)
    if not lasso > 0:
        raise BadInput("prune_train: no channel of the model is free to go, so none is penalised")
    return ratio * cross_entropy / ((1.0 - ratio) * lasso)


def check_ratio(ratio: float) -> None:
    """Raises BadInput for a lasso penalty ratio outside of (0, 1)."""
    if not isinstance(ratio, int | float) or not 0 < ratio < 1:
        raise BadInput(
            f"prune_train: ratio={ratio!r} is the penalty's share of the loss and must be between 0 "
            "and 1, such as 0.2"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """The groups of one axis of one kernel.

    Attributes:
        layer: its path.
        variable: the kernel.
        axis: of the channels.
        reads: whether the channels are read here; else they are made.
        number: (n,) the group of each position, or None if each is its own.
        classes: (groups,) the class in `Coupling.classes` of each.
        counts: (groups,) 1 for those that are penalised, 0 for those that must stay.
    """

    layer: str
    variable: keras.Variable
    axis: int
    reads: bool
    number: np.ndarray | None
    classes: np.ndarray
    counts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(groups,) how many weights each has."""
        each = int(np.prod(self.variable.shape)) // self.variable.shape[self.axis]
        if self.number is None:
            return np.full(len(self.counts), each, np.float32)
        return each * np.bincount(self.number).astype(np.float32)

    def norms(self):
        """(groups,) √(Σw² + 1e-8)."""
        return group_norms(self.variable, self.axis, self.number)


class GroupLasso:
    """R(W) of a model: Σ over kernels of the norms of the channels they make and read.

    Groups are there for what may go: not for the channels of the images, the logits, or others that
    surgery must leave. Depthwise kernels, biases and normalization are not penalised. The weights
    that read one channel are one group, also behind a Flatten, where they are several rows.

    A channel of a residual path leaves when its groups are zero in all blocks, an inner one when two
    are, so that inner ones go first. `coupled` makes what lives and dies together one group: in place
    of the sum of n norms R has n times their root mean square, and all n shrink in proportion.

    Args:
        model: a functional or built Sequential model, or its `Coupling`.
        weighting: what a norm counts: "equal": once, as in the paper; "size": √(number of its weights)
            times; "macs": the million multiply-adds of the channels that live and die together, see
            `class_macs`, shared among their groups, so that R counts what could be saved.
        input_shape: for "macs", the shape of one example where the model leaves it open.
        coupled: whether channels that live and die together are one group.

    Raises:
        BadInput: the model is subclassed or not built; an unknown weighting; "macs" without the
            shape of an example of a model that leaves it open.

    Example:
        lasso = GroupLasso(model)
        loss = cross_entropy + 1e-4 * lasso()

    Source: PruneTrain (Lym et al. 2019, arXiv 1901.09290, equation 2); "size" is its section 4.1;
        penalties in proportion to cost are MorphNet's (Gordon et al. 2018, arXiv 1711.06798), groups
        across layers DepGraph's (Fang et al. 2023, arXiv 2301.12900, section 3.3).
    """

    def __init__(
        self, model: keras.Model | Coupling, weighting: str = "equal", input_shape=None,
        coupled: bool = False,
    ):  # fmt: skip
        check_weighting(weighting)
        coupling = model if isinstance(model, Coupling) else Coupling.of(model)
        self.groups = tuple(_groups(coupling))
        self.channels = coupling.classes.count - len(coupling.classes.pinned)  # free to go
        self._normalized = _normalized(coupling.graph)
        self._factors = {one: one.counts for one in self.groups}
        if weighting == "size":
            self._factors = {one: one.counts * np.sqrt(one.sizes) for one in self.groups}
        if weighting == "macs":
            shares = _shares(coupling, self.groups, input_shape)
            self._factors = {one: one.counts * shares[one.classes] for one in self.groups}
        self._joint = self._joint_factors(coupling.classes.count) if coupled else None

    def __call__(self):
        """R(W), a float32 scalar."""
        if self._joint is not None:
            return ops.sum(self._joint * ops.sqrt(self._joint_squares() + FLOOR))
        terms = [ops.sum(one.norms() * self.factor(one)) for one in self.groups]
        return sum(terms) if terms else ops.zeros(())

    def norms(self) -> dict[tuple[str, str], np.ndarray]:
        """The norms by (layer, "made" or "read")."""
        return {
            (one.layer, "read" if one.reads else "made"): ops.convert_to_numpy(one.norms())
            for one in self.groups
        }

    def shrink(self, by, hold: bool = False) -> None:
        """Takes the proximal step of every group, first where channels are read, then made.

        Args:
            by: how much shorter a group of a factor of 1 becomes.
            hold: whether kernels whose outputs batch normalization takes as they are, and nothing
                else, are scaled back to the norm they had. Their scale changes nothing but their
                effective learning rate, which grows as they shrink (van Laarhoven 2017, arXiv
                1706.05350).
        """
        before = {
            id(one.variable): (one.variable, _norm(one.variable))
            for one in self.groups
            if hold and one.layer in self._normalized
        }
        stays = None if self._joint is None else self._joint_stays(by)
        for one in sorted(self.groups, key=lambda group: not group.reads):
            kernel = ops.convert_to_tensor(one.variable)
            if stays is not None:
                made = _scaled(kernel, one.axis, ops.take(stays, one.classes), one.number)
            else:
                shorter = by * ops.convert_to_tensor(self.factor(one))
                made = shrink_groups(kernel, one.axis, shorter, one.number)
            one.variable.assign(made)
        for variable, norm in before.values():
            variable.assign(variable * (norm / ops.maximum(_norm(variable), 1e-12)))

    def factor(self, groups: Groups) -> np.ndarray:
        """(groups,) float32, what a norm is multiplied by in R."""
        return self._factors[groups]

    def _joint_factors(self, classes: int) -> np.ndarray:
        """(classes,) float32, what the norm of all groups of a class counts: Σ of theirs over √n."""
        total, count = np.zeros((2, classes))
        for one in self.groups:
            np.add.at(total, one.classes, self.factor(one))
            np.add.at(count, one.classes, 1)
        return np.float32(total / np.sqrt(np.maximum(count, 1)))

    def _joint_squares(self):
        """(classes,) Σw² of all weights that make or read a class."""
        return sum(
            ops.segment_sum(
                group_squares(one.variable, one.axis, one.number), one.classes.astype(np.int32),
                num_segments=len(self._joint),
            )
            for one in self.groups
        )  # fmt: skip

    def _joint_stays(self, by):
        """(classes,) the share of each class's weights that the proximal step leaves."""
        norms = ops.maximum(ops.sqrt(self._joint_squares()), 1e-30)
        return ops.maximum(0.0, 1.0 - by * ops.convert_to_tensor(self._joint) / norms)


def check_weighting(weighting: str) -> None:
    """Raises BadInput for an unknown weighting."""
    if weighting not in WEIGHTINGS:
        raise BadInput(
            f'prune_train: weighting="{weighting}" is not known; {near(weighting, WEIGHTINGS)}'
        )


def class_macs(coupling: Coupling, input_shape=None) -> np.ndarray:
    """The multiply-adds of the kernels that make or read the channels of each class.

    Args:
        coupling: of the model.
        input_shape: the shape of one example where the model leaves it open.

    Returns:
        float64 (classes,), for one example: what surgery saves when this class goes alone, but for
        depthwise kernels, which are not counted, and a kernel that both makes and reads the class,
        whose multiply-adds for one of its channels are counted for either.
    """
    macs = {layer.name: layer.macs for layer in cost(coupling.graph.model, input_shape).layers}
    total = np.zeros(coupling.classes.count)
    for side in (*kernels.made(coupling), *kernels.read(coupling)):
        np.add.at(total, side.classes, macs[side.layer] / len(side.classes))
    return total


def _norm(kernel):
    return ops.sqrt(ops.sum(ops.square(kernel)))


def _normalized(graph: Graph) -> set[str]:
    """The paths of the layers without activation whose outputs batch normalization alone takes."""
    takers = collections.defaultdict(set)
    for call in graph.calls:
        for tensor in call.inputs:
            frozen = call.layer.kind == "BatchNormalization" and not call.layer.live.trainable
            takers[tensor].add("moving statistics" if frozen else call.layer.kind)
    for tensor in graph.outputs:
        takers[tensor].add("output")
    others = {
        call.layer.path
        for call in graph.calls
        if getattr(call.layer.live, "activation", None) not in (None, keras.activations.linear)
        or any(takers[tensor] != {"BatchNormalization"} for tensor in call.outputs)
    }
    return {call.layer.path for call in graph.calls} - others


def _shares(coupling: Coupling, groups: tuple[Groups, ...], input_shape) -> np.ndarray:
    """float32 (classes,) the million multiply-adds of a class by the number of its groups."""
    count = np.zeros(coupling.classes.count)
    for one in groups:
        np.add.at(count, one.classes, 1)
    return (class_macs(coupling, input_shape) / np.maximum(count, 1) / 1e6).astype(np.float32)


def _groups(coupling: Coupling) -> Iterator[Groups]:
    sides = (*kernels.made(coupling), *kernels.read(coupling))
    frozen = (side.classes for side in sides if not side.variable.trainable)  # never zero there
    stay = {int(c) for classes in frozen for c in classes} | set(coupling.classes.pinned)
    for side in sides:
        classes, number = np.unique(side.classes, return_inverse=True)
        own = len(classes) == len(side.classes)
        order = side.classes if own else classes
        counts = np.array([int(c) not in stay for c in order], np.float32)
        if counts.any() and side.variable.trainable:
            yield Groups(
                side.layer, side.variable, side.axis, side.reads,
                None if own else number.astype(np.int32), order, counts,
            )  # fmt: skip
