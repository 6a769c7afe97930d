"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

Torch and timm have it too, and make matrices orthogonal in bfloat16. On a CPU without instructions for that,
their step took longer than forward and backward of a small U-Net. This one computes in float32. Its rounds
work on the small square matrix x x^T instead of on x, which takes a third of the time for kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from snowmelt.training.shards import shard_like, whole

__all__ = ["Muon", "orthogonal"]

Learning = list[tuple[Parameter, Tensor]]  # with their gradients

# Jordan et al. 2024: they bring singular values from (0, 1] near 1 in five rounds
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5
RMS = 0.2  # of an update of AdamW, about
EPS = 1e-8


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices (k, m, n) with the same singular vectors, and singular values of about 1.

    >>> torch.linalg.svdvals(orthogonal(torch.tensor([[[3.0, 0.0], [0.0, 1.0]]]))).round()
    tensor([[1., 1.]])
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + EPS)
    # A round is x -> f x with f = A + B g + C g^2, g = x x^T. All of these commute
    gram = x @ x.mT
    factors: list[Tensor] = []
    for _ in range(ROUNDS):
        gram = factors[-1] @ gram @ factors[-1] if factors else gram
        factor = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        factor.diagonal(dim1=-2, dim2=-1).add_(A)
        factors.append(factor)
    x = reduce(torch.bmm, factors) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(Optimizer):
    """Muon for matrices and the kernels of convolutions, AdamW for everything else.

    Where the weights are divided among processes, each of them makes the whole matrices orthogonal.

    A kernel is a matrix of out x (in * height * width). An update of a matrix has the root mean square of one
    of AdamW (Liu et al. 2025, arXiv 2502.16982, section 2.2), so that one learning rate suits both.

    Args:
        matrices: of two dimensions or more.
        others: the rest.
        lr: > 0.
        betas: of AdamW.
        weight_decay: shrinks the weights by lr * weight_decay in each step.
        momentum: of the matrices, in [0, 1); Nesterov's.
        fused: True lets one kernel do a step of AdamW; None leaves that to torch.

    >>> weight = Parameter(torch.zeros(4, 9))
    >>> optimizer = Muon([weight], [], lr=0.1)
    >>> weight.grad = torch.randn(4, 9)
    >>> optimizer.step()
    >>> round(weight.square().mean().sqrt().item(), 3) in (0.018, 0.019, 0.02, 0.021, 0.022)
    True
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        others: Iterable[Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        fused: bool | None = None,
    ) -> None:
        groups = [
            {"params": list(matrices), "orthogonal": True},
            {"params": list(others), "orthogonal": False},
        ]
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        options |= {"momentum": momentum, "fused": fused}
        super().__init__([group for group in groups if group["params"]], options)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learning = [(p, p.grad) for p in group["params"] if p.grad is not None]
            (self._step_matrices if group["orthogonal"] else self._step_others)(learning, group)
        return loss

    def _step_matrices(self, learning: Learning, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], Learning] = defaultdict(list)
        for parameter, gradient in learning:
            size = parameter.shape
            alike[size[0], size[1:].numel()].append((parameter, gradient))
        for shape, same in alike.items():  # together: one product of many matrices
            parameters, gradients = map(list, zip(*same, strict=True))
            buffers = [self._state(parameter, "momentum_buffer") for parameter in parameters]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
            matrices = orthogonal(torch.stack([whole(each).flatten(1) for each in nesterov]))
            updates = [
                shard_like(each, matrix.view(each.shape))
                for matrix, each in zip(matrices, parameters, strict=True)
            ]
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(parameters, updates, alpha=group["lr"] * RMS * max(shape) ** 0.5)

    def _step_others(self, learning: Learning, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        adamw(  # Loshchilov & Hutter 2019, algorithm 2
            [parameter for parameter, _ in learning],
            [gradient for _, gradient in learning],
            [self._state(parameter, "exp_avg") for parameter, _ in learning],
            [self._state(parameter, "exp_avg_sq") for parameter, _ in learning],
            [],
            [self._count(parameter) for parameter, _ in learning],
            fused=group.get("fused"),
            amsgrad=False,
            beta1=first,
            beta2=second,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPS,
            maximize=False,
        )

    def _count(self, parameter: Parameter) -> Tensor:
        """Return the number of the parameter's steps, which earlier checkpoints hold as an int."""
        count = self.state[parameter].get("step", 0)
        count = torch.as_tensor(count, dtype=torch.float32, device=parameter.device)
        self.state[parameter]["step"] = count
        return count

    def _state(self, parameter: Parameter, name: str) -> Tensor:
        """Return a tensor of the parameter's state, which begins as zeros."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        tensor: Tensor = state[name]
        return tensor
