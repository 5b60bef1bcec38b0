"""Tests of the batched ensemble of perceptrons against separate ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mnm.networks import EnsembleMLP, soft_clamp


def separate_member(ensemble: EnsembleMLP, member: int, activation: type[nn.Module]) -> nn.Module:
    """One member of an ensemble as an ordinary `nn.Sequential`."""
    hidden = len(ensemble.weights) - 1
    layers: list[nn.Module] = []
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        linear.weight.data = weight[member].T.detach().clone()
        linear.bias.data = bias[member, 0].detach().clone()
        layers.append(linear)
        if ensemble.layer_norm and len(layers) < 3 * hidden:
            layers.append(nn.LayerNorm(linear.out_features, elementwise_affine=False))
        layers.append(activation())
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("name", "activation"), [("relu", nn.ReLU), ("silu", nn.SiLU)])
def test_ensemble_equals_separate_networks(
    name: str, activation: type[nn.Module], layer_norm: bool
) -> None:
    torch.manual_seed(0)
    ensemble = EnsembleMLP(3, 4, (8, 6), 2, activation=name, layer_norm=layer_norm)
    shared, own = torch.randn(5, 4), torch.randn(3, 5, 4)
    on_shared, on_own = ensemble(shared), ensemble(own)
    assert on_shared.shape == on_own.shape == (3, 5, 2)
    for member in range(3):
        network = separate_member(ensemble, member, activation)
        torch.testing.assert_close(on_shared[member], network(shared))
        torch.testing.assert_close(on_own[member], network(own[member]))


def test_named_members_only() -> None:
    torch.manual_seed(1)
    ensemble = EnsembleMLP(4, 2, (8,), 3)
    members = torch.tensor([3, 1])
    shared, own = torch.randn(5, 2), torch.randn(2, 5, 2)
    torch.testing.assert_close(ensemble(shared, members), ensemble(shared)[members])
    on_own = ensemble(own, members)
    for place, member in enumerate(members):
        torch.testing.assert_close(on_own[place], ensemble(own[place])[member])


def test_a_member_learns_from_its_own_rows_alone() -> None:
    torch.manual_seed(2)
    ensemble = EnsembleMLP(3, 2, (4,), 1, activation="silu")
    ensemble(torch.randn(3, 6, 2))[1].sum().backward()
    for parameter in ensemble.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_weights_start_within_the_bounds_of_their_fan_in() -> None:
    torch.manual_seed(3)
    ensemble = EnsembleMLP(2, 16, (64,), 8)
    for weight, bias, fan_in in zip(ensemble.weights, ensemble.biases, (16, 64), strict=True):
        bound = 1 / math.sqrt(fan_in)
        for values in (weight, bias):
            assert values.abs().max() <= bound
            assert values.abs().max() > 0.8 * bound


def test_soft_clamp_bounds_smoothly() -> None:
    values = torch.linspace(-40, 40, 161, dtype=torch.float64, requires_grad=True)
    clamped = soft_clamp(values, -10.0, 0.5)
    assert clamped.min() >= -10
    assert clamped.max() <= 0.5 + 1e-4  # the second softplus adds log(1 + exp(low - high))
    assert bool((clamped.diff() >= 0).all())
    (slope,) = torch.autograd.grad(clamped.sum(), values)
    inside: Tensor = (values > -14) & (values < 4.5)
    assert slope[inside].min() > 1e-3  # something is left to learn from, even past the bounds
    middle = (values > -6) & (values < -4)
    torch.testing.assert_close(clamped[middle], values[middle], atol=0.03, rtol=0)
