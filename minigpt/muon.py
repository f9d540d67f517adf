"""Muon: an optimizer for matrices that makes every direction of an update about equally large.

A gradient's matrix is dominated by a few directions. Its momentum average is replaced by the
nearest matrix whose singular values are all 1, roughly, so that rare directions are learned as fast
as frequent ones. Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks"
(2024). `torch.optim.Muon` does it with other coefficients, and in bfloat16 always, which most
laptop CPUs multiply a hundred times slower than float32; this one does so under autocast alone, and
all matrices of a shape at once.
"""

from collections import defaultdict

import torch
from torch import Tensor

# Of the odd polynomials that pull singular values to 1, one after the other: Amsel et al., "The
# Polar Express" (2025).
COEFFICIENTS = ((8.28721201814563, -23.595886519098837, 17.300387312530933),
                (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
                (3.9486908534822946, -2.908902115962949, 0.5518191394370137))


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, then orthogonalisation.

    Raises ValueError for a parameter that is not a matrix.

    `stacked`: how many matrices lie on top of one another in each parameter: three in a fused QKV.
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.9, weight_decay: float = 0.0,
                 stacked: int = 1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay,
                                  "stacked": stacked})
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() != 2:
                    raise ValueError(f"params must be matrices, not of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self) -> None:
        """Change every matrix that has a gradient."""
        by_shape: dict[tuple, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    update = self._momentum(p, group["momentum"])
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    changes = update.chunk(group["stacked"])
                    for part, change in zip(p.chunk(group["stacked"]), changes, strict=True):
                        by_shape[tuple(part.shape)].append((part, change, group["lr"]))
        for (rows, columns), parts in by_shape.items():
            changes = orthogonalise(torch.stack([change for _, change, _ in parts]))
            for (part, _, rate), change in zip(parts, changes, strict=True):
                part.add_(change, alpha=-rate * max(1, rows / columns) ** 0.5)

    def _momentum(self, p: Tensor, share: float) -> Tensor:
        if "momentum" not in self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(p)
        momentum = self.state[p]["momentum"].lerp_(p.grad, 1 - share)
        return p.grad.lerp(momentum, share)


def orthogonalise(matrices: Tensor) -> Tensor:
    """About the nearest matrices with all singular values 1, for a stack (N, rows, columns).

    About: three polynomials leave most of them between 0.2 and 1.9, which trains as well as a
    closer answer, and faster. An odd polynomial of a matrix x is a polynomial of its square x xᵀ,
    times x. So all the work is done on the squares, which are small where a matrix is wide, and x
    comes in at the end.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalise(matrices.mT).mT
    # No singular value is above the norm: now none is above 1.
    x = matrices / (1.01 * matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    square = x @ x.mT                                                    # (N, rows, rows)
    factor = total = _polynomial(square, COEFFICIENTS[0])
    for coefficients in COEFFICIENTS[1:]:
        square = factor @ square @ factor
        factor = _polynomial(square, coefficients)
        total = factor @ total
    return total @ x


def _polynomial(square: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """a + b s + c s² for a stack of square matrices s."""
    a, b, c = coefficients
    result = torch.baddbmm(square, square, square, beta=b, alpha=c)
    result.diagonal(dim1=-2, dim2=-1).add_(a)
    return result
