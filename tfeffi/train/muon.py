"""Muon: momentum whose updates of convolution kernels are made orthogonal.

Keras's own Muon orthogonalizes matrices only and leaves convolutions to Adam; this one is for CNNs.
"""

import math

import keras
from keras import ops

from tfeffi.errors import BadInput

STEPS_AT_ONCE = 3  # of Newton-Schulz between two looks at the matrix itself


@keras.saving.register_keras_serializable("tfeffi")
class ConvolutionMuon(keras.optimizers.Optimizer):
    """Orthogonal momentum for kernels of convolutions, Nesterov SGD for every other variable.

    A kernel W (h, w, in, out) is scaled to ‖W‖ = √out and moves by −η·O, where O is the Nesterov
    momentum as an (h·w·in, out) matrix with its singular values brought near 1. Any other variable
    v moves by Nesterov SGD at its own multiple of η, with decay λ·v a step at the peak of η; so do
    kernels of a last axis of 1, which depthwise convolutions have, at the multiple of matrices.

    Args:
        learning_rate: η of the kernels.
        momentum: of the kernels.
        other_momentum: of the other variables.
        vector_rate: learning rate of biases and scales (rank 1) as a multiple of η.
        matrix_rate: of dense kernels and of depthwise ones, likewise.
        decay: of the other variables, as a share of a step while η is at its peak; 0 for none. It is part
            of their gradient, so that momentum takes it 1/(1 − other_momentum) times as far in the end.
        peak: the peak of η that `decay` is meant for.
        steps: of the Newton-Schulz iteration.

    Raises:
        BadInput: a rate, peak or number of steps that is not positive.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(
        self, learning_rate=0.24, momentum=0.6, other_momentum=0.85, vector_rate=1.0,
        matrix_rate=1.0, decay=0.0, peak=0.24, steps=3, name="convolution_muon", **kwargs,
    ):  # fmt: skip
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        positive = dict(vector_rate=vector_rate, matrix_rate=matrix_rate, peak=peak, steps=steps)
        for key, value in positive.items():
            if not value > 0:
                raise BadInput(f"convolution_muon: {key}={value!r} must be above 0")
        if not isinstance(steps, int):
            raise BadInput(f"convolution_muon: steps={steps!r} must be a whole number")
        self.momentum, self.other_momentum = momentum, other_momentum
        self.vector_rate, self.matrix_rate = vector_rate, matrix_rate
        self.decay, self.peak, self.steps = decay, peak, steps

    def build(self, variables):
        """Makes a momentum for each variable."""
        if self.built:
            return
        super().build(variables)
        self.momentums = [self.add_variable_from_reference(v, "momentum") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        slot = self.momentums[self._get_variable_index(variable)]
        if len(variable.shape) == 4 and variable.shape[-1] > 1:
            self.assign(slot, self.momentum * slot + gradient)
            update = orthogonalized(gradient + self.momentum * slot, self.steps)
            length = ops.sqrt(ops.sum(ops.square(variable)))
            scaled = variable * (math.sqrt(variable.shape[-1]) / ops.maximum(length, 1e-7))
            self.assign(variable, scaled - rate * update)
            return
        multiple = self.vector_rate if len(variable.shape) < 2 else self.matrix_rate
        gradient = gradient + self.decay / (self.peak * multiple) * variable
        self.assign(slot, self.other_momentum * slot + gradient)
        self.assign_sub(variable, rate * multiple * (gradient + self.other_momentum * slot))

    def get_config(self):
        """The arguments."""
        own = ("momentum", "other_momentum", "vector_rate", "matrix_rate", "decay", "peak", "steps")
        return super().get_config() | {name: getattr(self, name) for name in own}


def orthogonalized(kernel, steps: int = 3):
    """A tensor whose singular values, as an (…, last axis) matrix, are brought near 1.

    The quintic Newton-Schulz iteration X ← p(A)X, p(A) = aI + bA + cA², A = XXᵀ, with the coefficients
    that are steepest at 0: small singular values rise fast, and all end in about [0.5, 1.5], not at 1.
    As p(A) commutes with A, it is A that is iterated, A ← p(A)Ap(A), which is the smaller of the two for
    most kernels; X is multiplied after three steps, before rounding errors of A have grown.

    Args:
        kernel: (…, n).
        steps: of the iteration.

    Returns:
        The same shape. The directions stay: UΣVᵀ becomes US'Vᵀ.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = ops.reshape(kernel, (-1, kernel.shape[-1]))
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    identity = ops.eye(min(x.shape), dtype=x.dtype)
    for done in range(0, steps, STEPS_AT_ONCE):
        gram = ops.matmul(x, ops.transpose(x)) if wide else ops.matmul(ops.transpose(x), x)
        product = identity
        for _ in range(min(STEPS_AT_ONCE, steps - done)):
            factor = a * identity + b * gram + c * ops.matmul(gram, gram)
            gram = ops.matmul(factor, ops.matmul(gram, factor))
            product = ops.matmul(factor, product)
        x = ops.matmul(product, x) if wide else ops.matmul(x, product)
    return ops.reshape(x, kernel.shape)
