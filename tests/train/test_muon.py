"""Muon for convolutions: orthogonal updates of kernels, Nesterov SGD for the rest."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfeffi.errors import BadInput
from tfeffi.train.muon import ConvolutionMuon, orthogonalized


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_singular_values_come_near_one_and_directions_stay(rows, columns, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    made = np.asarray(orthogonalized(matrix.astype("float32"), steps=5))
    inside = u.T @ made @ v.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=2e-3)
    strong = np.diag(inside)[values > 0.1 * np.linalg.norm(values)]
    assert (strong > 0.6).all() and (np.diag(inside) < 1.25).all()


def directly(matrix, steps):
    """Newton-Schulz on the matrix itself, in float64."""
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    x = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


@pytest.mark.parametrize("steps", [1, 3, 4, 9, 30])
@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (12, 12), (5, 1)])
@pytest.mark.parametrize("kind", ["full", "steep", "of rank 1", "zero"])
def test_it_is_the_iteration_on_the_matrix_itself(kind, shape, steps):
    """Iterated is the Gram matrix, whose rounding errors grow where there is nothing else."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=shape)
    if kind == "steep":
        u, values, v = np.linalg.svd(matrix, full_matrices=False)
        matrix = u * np.geomspace(1, 1e-6, len(values)) @ v
    elif kind == "of rank 1":
        matrix = np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    elif kind == "zero":
        matrix = np.zeros(shape)
    matrix = matrix.astype("float32")
    made, wanted = np.asarray(orthogonalized(matrix, steps)), directly(matrix.astype(float), steps)
    if steps <= 3:
        np.testing.assert_allclose(made, wanted, atol=2e-5)
    elif kind == "full":  # many steps are chaotic: between 0.5 and 1.5 values jump about
        values = np.linalg.svd(made, compute_uv=False)
        assert (values > 0.3).all() and (values < 1.6).all()
    else:
        assert (0.3 if kind != "zero" else 0) <= np.linalg.norm(made, 2) < 1.6


def test_a_kernel_is_orthogonalized_as_a_matrix_of_its_filters():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype("float32")
    flat = np.asarray(orthogonalized(kernel.reshape(18, 4)))
    np.testing.assert_allclose(orthogonalized(kernel), flat.reshape(kernel.shape), atol=1e-6)


def test_two_steps_by_hand():
    rng = np.random.default_rng(0)
    kernel, bias, dense = (rng.normal(size=s).astype("float32") for s in ((3, 3, 2, 4), 4, (4, 3)))
    variables = [keras.Variable(v) for v in (kernel, bias, dense)]
    optimizer = ConvolutionMuon(0.1, vector_rate=2.0, matrix_rate=3.0, decay=0.01, peak=0.1)
    slots = [np.zeros_like(v) for v in (kernel, bias, dense)]
    for _ in range(2):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in (kernel, bias, dense)]
        optimizer.apply(gradients, variables)
        slots[0] = 0.6 * slots[0] + gradients[0]
        update = np.asarray(orthogonalized(gradients[0] + 0.6 * slots[0]))
        kernel = kernel * (4**0.5 / np.linalg.norm(kernel)) - 0.1 * update
        others = []
        for n, (value, rate) in enumerate(((bias, 0.2), (dense, 0.3)), 1):
            gradient = gradients[n] + 0.01 / rate * value
            slots[n] = 0.85 * slots[n] + gradient
            others.append(value - rate * (gradient + 0.85 * slots[n]))
        bias, dense = others
    for variable, value in zip(variables, (kernel, bias, dense), strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-5)


def test_decay_alone_shrinks_at_the_peak_by_its_share():
    bias = keras.Variable(np.ones(3, "float32"))
    optimizer = ConvolutionMuon(0.24, other_momentum=0.0, decay=0.01, vector_rate=7.0)
    optimizer.apply([np.zeros(3, "float32")], [bias])
    np.testing.assert_allclose(bias, 0.99, rtol=1e-6)


def test_its_config_makes_it_again():
    made = ConvolutionMuon(0.1, momentum=0.5, decay=0.1, steps=4)
    assert ConvolutionMuon.from_config(made.get_config()).get_config() == made.get_config()


def test_a_depthwise_kernel_takes_a_step_of_sgd():
    start = np.random.default_rng(0).normal(size=(3, 3, 5, 1)).astype("float32")
    kernel, gradient = keras.Variable(start), np.full_like(start, 2.0)
    ConvolutionMuon(0.1, other_momentum=0.0, matrix_rate=3.0).apply([gradient], [kernel])
    np.testing.assert_allclose(kernel, start - 0.1 * 3.0 * 2.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["vector_rate", "matrix_rate", "peak", "steps"])
def test_bad_arguments(name):
    with pytest.raises(BadInput, match=f"convolution_muon: {name}=0 must be above 0"):
        ConvolutionMuon(0.1, **{name: 0})


def test_steps_that_are_no_number_of_steps():
    with pytest.raises(BadInput, match=r"convolution_muon: steps=2.5 must be a whole number"):
        ConvolutionMuon(0.1, steps=2.5)


def test_a_kernel_of_zeros_stays_finite():
    kernel = keras.Variable(np.zeros((3, 3, 2, 4), "float32"))
    ConvolutionMuon(0.1).apply([np.zeros((3, 3, 2, 4), "float32")], [kernel])
    assert np.isfinite(np.asarray(kernel)).all()


@pytest.mark.parametrize("shape", [(3, 3, 8, 2), (1, 1, 2, 8)])
def test_tall_and_wide_kernels(shape):
    kernel = np.random.default_rng(1).normal(size=shape).astype("float32")
    values = np.linalg.svd(np.asarray(orthogonalized(kernel, 5)).reshape(-1, shape[-1]))[1]
    assert (values > 0.6).all() and (values < 1.25).all()
