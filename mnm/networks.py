"""Batched ensembles of multilayer perceptrons: the one network every part of MnM is built from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu}


class EnsembleMLP(nn.Module):
    """`members` multilayer perceptrons of one shape, evaluated together by batched products.

    Args:
        members: number of networks E.
        input_dim: width of the input.
        hidden_sizes: widths of the hidden layers.
        output_dim: width of the output; the last layer is linear.
        activation: "relu" or "silu".
        layer_norm: whether every hidden layer is normalised before its activation, to mean 0 and
            variance 1 over its units, without gain or offset of its own (Ba et al. 2016).
    """

    def __init__(
        self,
        members: int,
        input_dim: int,
        hidden_sizes: Sequence[int],
        output_dim: int,
        activation: str = "relu",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.members = members
        self.layer_norm = layer_norm
        self.activation = ACTIVATIONS[activation]
        widths = [input_dim, *hidden_sizes, output_dim]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(widths):
            bound = 1.0 / math.sqrt(fan_in)
            self.weights.append(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound))
            self.biases.append(torch.empty(members, 1, fan_out).uniform_(-bound, bound))

    def forward(self, inputs: Tensor, member_indices: Tensor | None = None) -> Tensor:
        """Evaluates every member, or the ones named.

        Args:
            inputs: [N, in], the same rows for every member, or [E, N, in], each member's own.
            member_indices: [M] integers; evaluates only these, M then standing for E.

        Returns:
            [E, N, out] (or [M, N, out]).
        """
        last = len(self.weights) - 1
        hidden = inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if member_indices is not None:
                weight, bias = weight[member_indices], bias[member_indices]
            if hidden.dim() == 2:
                hidden = hidden.expand(weight.shape[0], -1, -1)
            if weight.shape[-1] == 1 and len(weight) > 1:
                # One column each: a batched product would take ten times as long on the CPU.
                hidden = (hidden * weight.transpose(1, 2)).sum(-1, keepdim=True) + bias
            else:
                hidden = torch.baddbmm(bias, hidden, weight)
            if layer < last:
                if self.layer_norm:
                    hidden = functional.layer_norm(hidden, hidden.shape[-1:])
                hidden = self.activation(hidden)
        return hidden


def soft_clamp(values: Tensor, low: float, high: float) -> Tensor:
    """Bounds `values` to (low, high) smoothly, so that a gradient remains at the bounds.

    The double softplus of PETS (Chua et al. 2018, section 4), with fixed bounds.
    """
    values = high - functional.softplus(high - values)
    return low + functional.softplus(values - low)
