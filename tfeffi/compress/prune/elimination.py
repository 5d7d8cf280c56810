"""Backward elimination of hidden units with refit: the arithmetic of `prune_to_tolerance`, in numpy.

A layer and the one that reads it are f(x) = φ(xW + b)·V + xA + c, in float64. xA is what units that
are active on all of the data compute together: of r such ReLU units or a thousand, only the linear map
A is seen, and as many units as A has rank can stand for it. So the cost of f is units(V) + rank(A).

Removing a unit and solving for V, A and c again raises the squared error by exactly
Σ_j V_ij² / [(ΦᵀΦ)⁻¹]_ii (Φ the features φ(xW + b), x, 1): all candidates are compared at the price of one
inverse. A unit that is a multiple of another, its mirror image, or linear on the data costs nothing.

Source: optimal brain surgeon (Hassibi & Stork 1993), equation 5, here where it is exact: the
output layer, in which the error is quadratic.
"""

import dataclasses
import itertools

import numpy as np
import scipy.linalg
import scipy.optimize

from tfeffi.errors import BadInput, near

_ROWS = 1 << 14  # examples whose hidden activations are held at once
_TRIES = 8  # units tried, the cheapest first, before elimination gives up
_MOST_POLISHED = 400  # parameters; beyond, Gauss-Newton steps cost too much
_EXACT = 1e-6  # of the tolerance: below, there is nothing to polish
_MOST_MIRRORED = 10  # units of which all 2^k mirror images are looked at


def _sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


# name: (function, derivative)
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
    "softplus": (lambda z: np.logaddexp(0, z), _sigmoid),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
            lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0)))),
    "linear": (lambda z: z, np.ones_like),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """f(x) = φ(xW + b)·V + xA + c, and what it is to be used with.

    Attributes:
        w, b: (inputs, units) and (units,).
        v: (units, outputs).
        a: (inputs, outputs); zero unless `linear`.
        c: (outputs,).
        activation: the name of φ.
        linear: whether A may differ from zero; ReLU only.
    """

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    a: np.ndarray
    c: np.ndarray
    activation: str = "relu"
    linear: bool = False

    def __len__(self) -> int:
        return len(self.b)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """φ(xW + b), (n, units)."""
        return ACTIVATIONS[self.activation][0](x @ self.w + self.b)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.hidden(x) @ self.v + x @ self.a + self.c

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """The mean squared error."""
        starts = range(0, len(x), _ROWS)
        parts = (np.sum((self(x[i : i + _ROWS]) - y[i : i + _ROWS]) ** 2) for i in starts)
        return float(sum(parts) / y.size)

    def keep(self, index) -> "Units":
        """Only these units."""
        return dataclasses.replace(
            self, w=self.w[:, index], b=self.b[index], v=self.v[index]
        )  # fmt: skip

    def features(self, x: np.ndarray) -> np.ndarray:
        """What V, A and c are applied to: (n, units + inputs + 1), without inputs unless linear."""
        linear = [x] if self.linear else []
        return np.concatenate([self.hidden(x), *linear, np.ones((len(x), 1))], axis=1)


def check_activation(name: str) -> None:
    """BadInput unless the function and its derivative are known here."""
    if name not in ACTIVATIONS:
        raise BadInput(
            f'prune_to_tolerance: activation "{name}" has no derivative here; '
            f"{near(name, ACTIVATIONS)}"
        )


def refit(units: Units, x: np.ndarray, y: np.ndarray) -> Units:
    """V, A and c by least squares, the shortest solution where several are best."""
    features = units.features(x)
    scale = np.sqrt(np.mean(features**2, axis=0))
    scale[scale == 0] = 1
    answer = np.linalg.lstsq(features / scale, y, rcond=1e-12)[0] / scale[:, None]
    k = len(units)
    a = answer[k:-1] if units.linear else np.zeros_like(units.a)
    return dataclasses.replace(units, v=answer[:k], a=a, c=answer[-1])


def removal_costs(units: Units, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By how much the mean squared error rises if one unit goes and the outputs are refitted.

    Args:
        units: refitted on the same x and y.

    Returns:
        (units,), 0 for units that the others can stand for.
    """
    features = units.features(x)
    scale = np.sqrt(np.mean(features**2, axis=0))
    scale[scale == 0] = 1
    gram = (features / scale).T @ (features / scale)
    gram[np.diag_indices_from(gram)] += 1e-10 * len(x)  # units that say the same: no division by 0
    inverse = np.diag(scipy.linalg.inv(gram))[: len(units)]
    values = units.v * scale[: len(units), None]
    return (values**2).sum(axis=1) / inverse / y.size


def polish(units: Units, x: np.ndarray, y: np.ndarray, steps: int = 100) -> Units:
    """All weights at once by damped Gauss-Newton (scipy's trust region), from where they are.

    Units that have too many weights for it come back as they are.
    """
    names = ("w", "b", "v", "a", "c") if units.linear else ("w", "b", "v", "c")
    shapes = [getattr(units, name).shape for name in names]
    start = np.concatenate([getattr(units, name).ravel() for name in names])
    if start.size > _MOST_POLISHED:
        return units
    _, slope = ACTIVATIONS[units.activation]
    eye = np.eye(y.shape[1])

    def made(vector) -> Units:
        parts = np.split(vector, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
        arrays = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return dataclasses.replace(units, **arrays)

    def errors(vector):
        return (made(vector)(x) - y).ravel()

    def jacobian(vector):
        one = made(vector)
        back = slope(x @ one.w + one.b)[:, None, :] * one.v.T  # n, outputs, units
        flat = {
            "w": x[:, None, :, None] * back[:, :, None, :],
            "b": back,
            "v": one.hidden(x)[:, None, :, None] * eye[:, None, :],
            "a": x[:, None, :, None] * eye[:, None, :],
            "c": np.broadcast_to(eye, (len(x), *eye.shape)),
        }
        return np.concatenate([flat[name].reshape(y.size, -1) for name in names], axis=1)

    found = scipy.optimize.least_squares(
        errors, start, jacobian, method="trf", x_scale="jac", max_nfev=steps, xtol=1e-14, ftol=1e-12,
        gtol=1e-14,
    )  # fmt: skip
    return made(found.x)


def eliminate(units: Units, x: np.ndarray, y: np.ndarray, tolerance: float) -> Units | None:
    """Removes units, the least needed first, as long as the loss can be brought to the tolerance.

    Args:
        units: the layer to begin with.
        x: (n, inputs).
        y: (n, outputs).
        tolerance: the highest mean squared error.

    Returns:
        The smallest layer found, without a linear part, its weights polished; None if even all
        units do not reach the tolerance.
    """
    units = _within(refit(units, x, y), x, y, tolerance)
    if units is None:
        return None
    units = _in_bulk(units, x, y, tolerance)
    while len(units):
        order = np.argsort(removal_costs(units, x, y), kind="stable")
        rest = (np.delete(np.arange(len(units)), i) for i in order[:_TRIES])
        trials = (_within(refit(units.keep(kept), x, y), x, y, tolerance) for kept in rest)
        smaller = next((trial for trial in trials if trial is not None), None)
        if smaller is None:
            break
        units = smaller
    units = as_units(_without_linear(units, x, y, tolerance), x)
    if units.loss(x, y) <= _EXACT * tolerance:
        return units
    polished = polish(units, x, y)
    return polished if polished.loss(x, y) < units.loss(x, y) else units


def _in_bulk(units: Units, x, y, tolerance: float) -> Units:
    """Removes the cheapest units as many at a time as a refit makes good."""
    count = len(units)
    while count:
        order = np.argsort(removal_costs(units, x, y), kind="stable")
        trial = refit(units.keep(np.sort(order[count:])), x, y)
        if trial.loss(x, y) <= tolerance:
            units = trial
            count = min(count, len(units))
        else:
            count //= 2
    return units


def _within(units: Units, x, y, tolerance: float) -> Units | None:
    """The units as they are or polished, if that meets the tolerance."""
    if units.loss(x, y) <= tolerance:
        return units
    polished = polish(units, x, y)
    return polished if polished.loss(x, y) <= tolerance else None


def mirrored(units: Units, flips) -> Units:
    """The same function with some ReLU units turned round: relu(z) = relu(−z) + z."""
    sign = np.where(flips, -1.0, 1.0)
    turned = np.where(flips, 1.0, 0.0)
    return dataclasses.replace(
        units, w=units.w * sign, b=units.b * sign,
        a=units.a + (units.w * turned) @ units.v, c=units.c + (units.b * turned) @ units.v,
    )  # fmt: skip


def _without_linear(units: Units, x, y, tolerance: float) -> Units:
    """Units turned so that the linear part is nothing, or of the lowest rank, if that can be had."""
    if not units.linear:
        return units
    centered = x - x.mean(axis=0)
    if len(units) <= _MOST_MIRRORED:
        choices = itertools.product((False, True), repeat=len(units))
    else:
        choices = [(False,) * len(units)]
    turned = [mirrored(units, np.array(choice, bool)) for choice in choices]
    turned.sort(key=lambda one: float(np.sum((centered @ one.a) ** 2)))
    for one in turned[:_TRIES]:
        bare = dataclasses.replace(one, a=np.zeros_like(one.a), linear=False)
        if len(bare) and (found := _within(refit(bare, x, y), x, y, tolerance)) is not None:
            return found
    best = turned[0]
    left, sizes, right = np.linalg.svd(_spread(centered) @ best.a, full_matrices=False)
    for rank in range(len(sizes)):
        root = left[:, :rank] * sizes[:rank] @ right[:rank]
        low = dataclasses.replace(best, a=np.linalg.pinv(_spread(centered)) @ root)
        if low.loss(x, y) <= tolerance:
            return low
    return best


def _spread(centered: np.ndarray) -> np.ndarray:
    """The square root of the covariance: what a linear map does to the data, it does to this."""
    values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def as_units(units: Units, x: np.ndarray) -> Units:
    """The same function on the data, its linear part made of ReLU units that are always active.

    They stay active on the whole box that the data lie in, widened by a tenth.
    """
    if not units.linear:
        return units
    left, sizes, right = np.linalg.svd(units.a, full_matrices=False)
    rank = int((sizes > 1e-9 * max(sizes.max(initial=0), 1e-300)).sum()) if units.a.any() else 0
    root = np.sqrt(sizes[:rank])
    w, v = left[:, :rank] * root, root[:, None] * right[:rank]
    low, high = x.min(axis=0), x.max(axis=0)
    extra = 0.1 * (high - low)
    ends = np.stack([(low - extra)[:, None] * w, (high + extra)[:, None] * w])
    shift = -ends.min(axis=0).sum(axis=0)
    return Units(
        np.concatenate([units.w, w], axis=1), np.concatenate([units.b, shift]),
        np.concatenate([units.v, v]), np.zeros_like(units.a), units.c - shift @ v, "relu", False,
    )  # fmt: skip
