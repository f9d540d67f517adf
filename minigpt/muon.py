"""Muon: an optimizer for matrices that makes every direction of an update equally large.

A gradient's matrix is dominated by a few directions; a momentum average of it is replaced by the nearest matrix whose
singular values are all about 1, so that rare directions are learned as fast as frequent ones. Source: Jordan et al.,
"Muon: An optimizer for hidden layers in neural networks" (2024). `torch.optim.Muon` does the same in bfloat16, which few
laptop CPUs can multiply fast; this one stays in float32.
"""

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)      # of the quintic that pulls singular values to 1: Jordan et al.


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's), then orthogonalisation. For parameters of two dimensions only; raises ValueError otherwise."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() != 2:
                    raise ValueError(f"params must be matrices, not of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self) -> None:
        """Change every matrix that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p not in self.state:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"]
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(momentum, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix with all singular values 1 (they end between 0.7 and 1.2), by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix          # the smaller square is the cheaper one
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x
