"""Muon: against the singular value decomposition in float64, against the rule worked out by hand, and against torch's own."""

import pytest
import torch

from minigpt.muon import COEFFICIENTS, Muon, orthogonalise

SHAPES = [(8, 8), (24, 16), (8, 24), (64, 16), (16, 1)]
ARGUMENTS = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}


def random_matrix(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def after_steps(optimizer_class, start, gradients, **arguments):
    weight = torch.nn.Parameter(start.clone())
    optimizer = optimizer_class([weight], **arguments)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def by_decomposition(matrix):
    """What `orthogonalise` should give: the polynomials, applied to each singular value by itself."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / (1.01 * matrix.double().norm() + 1e-7)
    for a, b, c in COEFFICIENTS:
        values = a * values + b * values ** 3 + c * values ** 5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalising_equals_the_polynomials_on_the_singular_values(shape):
    matrix = random_matrix(shape)
    torch.testing.assert_close(orthogonalise(matrix[None])[0].double(), by_decomposition(matrix), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_comes_near_the_nearest_matrix_whose_singular_values_are_all_one(shape):
    matrix = random_matrix(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix[None])[0]
    cosine = torch.nn.functional.cosine_similarity(result.flatten(), (left @ right).flatten(), dim=0)
    assert cosine > 0.85
    large = values > 0.05 * matrix.norm()                               # the very small ones stay smaller
    values_now = torch.linalg.svdvals(result)
    assert values_now[:int(large.sum())].min() > 0.2 and values_now.max() < 1.9


def test_a_stack_is_done_matrix_by_matrix():
    stack = torch.stack([random_matrix((6, 4), seed) for seed in range(3)])
    for one, together in zip(stack, orthogonalise(stack), strict=True):
        torch.testing.assert_close(orthogonalise(one[None])[0], together)


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_the_size_of_a_gradient_does_not_matter(scale):
    matrix = random_matrix((1, 12, 8))
    torch.testing.assert_close(orthogonalise(matrix * scale), orthogonalise(matrix), rtol=1e-3, atol=1e-3)


def test_a_gradient_of_zeros_changes_nothing():
    assert not orthogonalise(torch.zeros(1, 4, 6)).any()


@pytest.mark.parametrize("shape", [*SHAPES, (24, 8)])
def test_steps_are_what_the_rule_says(shape):
    """By hand in float64. A fused QKV, here the last shape, is three matrices."""
    start, gradients = random_matrix(shape, 1), [random_matrix(shape, 2 + i) for i in range(4)]
    weight, momentum = start.double(), torch.zeros(shape, dtype=torch.float64)
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
        update = 0.05 * gradient + 0.95 * momentum                      # Nesterov: a look ahead
        parts = update.chunk(3) if shape == (24, 8) else [update]
        rows, columns = parts[0].shape
        update = torch.cat([by_decomposition(part) for part in parts])
        weight = weight * (1 - 0.02 * 0.1) - 0.02 * max(1, rows / columns) ** 0.5 * update
    stacked = 3 if shape == (24, 8) else 1
    ours = after_steps(Muon, start, gradients, **ARGUMENTS, stacked=stacked).double()
    torch.testing.assert_close(ours, weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_go_where_those_of_torch_go(shape):
    """torch's polynomials are others, and it computes them in bfloat16: the direction is the same, and about the length."""
    start, gradients = random_matrix(shape, 1), [random_matrix(shape, 2 + i) for i in range(4)]
    ours = after_steps(Muon, start, gradients, **ARGUMENTS) - start
    theirs = after_steps(torch.optim.Muon, start, gradients, **ARGUMENTS) - start
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9
    assert 0.5 < ours.norm() / theirs.norm() < 2


def test_momentum_is_allocated_once():
    weight = torch.nn.Parameter(random_matrix((4, 4)))
    optimizer = Muon([weight])
    weight.grad = random_matrix((4, 4), 1)
    optimizer.step()
    before = optimizer.state[weight]["momentum"].data_ptr()
    optimizer.step()
    assert optimizer.state[weight]["momentum"].data_ptr() == before


def test_a_matrix_without_a_gradient_stays():
    start = random_matrix((4, 4))
    weight = torch.nn.Parameter(start.clone())
    Muon([weight]).step()
    assert torch.equal(weight, start)


def test_what_is_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"params must be matrices, not of shape \(4,\)"):
        Muon([torch.nn.Parameter(torch.zeros(4))])
