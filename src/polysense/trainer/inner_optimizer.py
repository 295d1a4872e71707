"""Adam for an optimisation within a training step, with all its state in buffers.

An objective may have to fit something of its own in every step (vCLUB's approximations). As buffers of the objective's
module, moments and step count are in every checkpoint, so such a run resumes to the bit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class InnerAdam(nn.Module):
    """Adam (Kingma and Ba 2015), without weight decay, for the parameters of one network.

    Buffers: `mean` and `square`, the moments of all parameters in one row; `steps`.

    Args:
        network: whose parameters are to be fitted; not kept.
        learning_rate, beta1, beta2, epsilon: as in `torch.optim.Adam`.
    """

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        self.learning_rate, self.beta1, self.beta2, self.epsilon = learning_rate, beta1, beta2, epsilon
        size = sum(parameter.numel() for parameter in network.parameters())
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self, network: nn.Module, loss: Float[Tensor, ""]) -> bool:
        """Move the parameters of `network` down the gradient of `loss`; their `grad` is not touched.

        Returns:
            Whether it did: where loss or gradient is not finite nothing changes.
        """
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            flat = torch.cat([each.flatten() for each in gradients]).to(self.mean)
            if not (loss.isfinite() & flat.sum().isfinite()):
                return False
            self.steps += 1
            self.mean.lerp_(flat, 1 - self.beta1)
            self.square.mul_(self.beta2).addcmul_(flat, flat, value=1 - self.beta2)
            count = int(self.steps)
            root = (self.square / (1 - self.beta2**count)).sqrt_().add_(self.epsilon)
            moves = self.mean / root * (-self.learning_rate / (1 - self.beta1**count))
            sizes = [parameter.numel() for parameter in parameters]
            for parameter, move in zip(parameters, moves.split(sizes), strict=True):
                parameter.add_(move.view_as(parameter))
        return True
