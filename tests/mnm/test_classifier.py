"""Tests of the transition classifier: its loss by hand, and its logit as a density ratio."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mnm.classifier import TransitionClassifier
from mnm.normaliser import Normaliser
from tests.mnm.small_cases import small_settings


def classifier_of(**changes: Any) -> TransitionClassifier:
    """A classifier for one observation and one action: three inputs."""
    torch.manual_seed(0)
    plain = {"classifier_label_smoothing": 0.0, "classifier_hidden_sizes": (8,)}
    return TransitionClassifier(1, 1, small_settings("mnm", **{**plain, **changes}))


def logits_by_hand(classifier: TransitionClassifier, inputs: Tensor) -> Tensor:
    """Logits [E, N] of one hidden layer of SiLU units."""
    (first, second), (first_bias, second_bias) = (
        classifier.networks.weights,
        classifier.networks.biases,
    )
    rows = []
    for member in range(len(first)):
        hidden = functional.silu(inputs @ first[member] + first_bias[member])
        rows.append((hidden @ second[member] + second_bias[member]).squeeze(-1))
    return torch.stack(rows)


def halves(count: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 3), torch.randn(count, 3)


def loss_of(classifier: TransitionClassifier, real: Tensor, imagined: Tensor) -> Tensor:
    return classifier.loss(real, imagined, torch.Generator().manual_seed(0))[0]


def test_inputs_are_the_normalised_state_action_and_change() -> None:
    normaliser = Normaliser(2, 1)
    normaliser.input_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    normaliser.input_scale.copy_(torch.tensor([2.0, 4.0, 0.5]))
    normaliser.target_mean.copy_(torch.tensor([0.5, -0.5, 100.0]))
    normaliser.target_scale.copy_(torch.tensor([0.25, 2.0, 100.0]))
    inputs = TransitionClassifier.inputs(
        normaliser,
        torch.tensor([[3.0, 6.0]]),
        torch.tensor([[4.0]]),
        torch.tensor([[4.0, 5.0]]),
    )
    assert inputs.tolist() == [[1.0, 1.0, 2.0, 2.0, -0.25]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("members", [1, 3])
def test_loss_is_the_smoothed_cross_entropy(smoothing: float, members: int) -> None:
    classifier = classifier_of(
        classifier_label_smoothing=smoothing, classifier_ensemble_size=members
    )
    real, imagined = halves()
    loss, cross_entropy, real_logits, imagined_logits = classifier.loss(
        real, imagined, torch.Generator().manual_seed(0)
    )
    on_real = logits_by_hand(classifier, real).detach().double().numpy()
    on_imagined = logits_by_hand(classifier, imagined).detach().double().numpy()

    def log_sigmoid(values: np.ndarray) -> np.ndarray:
        return -np.log1p(np.exp(-values))

    high, low = 1 - smoothing / 2, smoothing / 2
    real_part = -(high * log_sigmoid(on_real) + (1 - high) * log_sigmoid(-on_real))
    imagined_part = -(low * log_sigmoid(on_imagined) + (1 - low) * log_sigmoid(-on_imagined))
    assert loss.item() == pytest.approx((real_part.mean() + imagined_part.mean()) / 2, abs=1e-6)
    np.testing.assert_allclose(real_logits.numpy(), on_real.mean(0), atol=1e-6)
    np.testing.assert_allclose(imagined_logits.numpy(), on_imagined.mean(0), atol=1e-6)
    assert cross_entropy == loss
    assert not cross_entropy.requires_grad
    assert not real_logits.requires_grad


def test_logit_is_the_mean_over_the_networks() -> None:
    classifier = classifier_of(classifier_ensemble_size=3)
    real, _ = halves()
    torch.testing.assert_close(classifier(real), logits_by_hand(classifier, real).mean(0))


def test_gradient_penalty_is_the_squared_slope_on_real_rows() -> None:
    weight = 0.7
    plain, penalised = classifier_of(), classifier_of(classifier_gradient_penalty=weight)
    real, imagined = halves()
    squared_slopes = []
    for row in real:
        slope = torch.zeros(3, dtype=torch.float64)
        for column in range(3):  # central differences, row by row
            step = torch.zeros(3, dtype=torch.float64)
            step[column] = 1e-5
            double = classifier_of().double()
            high = logits_by_hand(double, (row.double() + step).unsqueeze(0))
            low = logits_by_hand(double, (row.double() - step).unsqueeze(0))
            slope[column] = ((high - low) / 2e-5).item()
        squared_slopes.append(float(slope.square().sum()))
    expected = weight * np.mean(squared_slopes)
    loss, cross_entropy, *_ = penalised.loss(real, imagined, torch.Generator().manual_seed(0))
    assert cross_entropy == loss_of(plain, real, imagined), "the figure is without the penalty"
    difference = loss - cross_entropy
    assert difference.item() == pytest.approx(expected, rel=1e-4)


def test_gradient_penalty_trains_the_slope_down() -> None:
    real, imagined = halves(64)
    slopes = []
    for penalty in (0.0, 1.0):
        classifier = classifier_of(classifier_gradient_penalty=penalty)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
        for _ in range(200):
            optimizer.zero_grad()
            loss_of(classifier, real, imagined + 1.0).backward()
            optimizer.step()
        inputs = real.clone().requires_grad_()
        (slope,) = torch.autograd.grad(classifier(inputs).sum(), inputs)
        slopes.append(float(slope.square().sum(1).mean()))
    assert slopes[1] < 0.5 * slopes[0]


def test_equal_networks_are_penalised_as_one() -> None:
    real, imagined = halves()
    penalties = []
    for members in (1, 4):
        changes = {"classifier_ensemble_size": members}
        plain = classifier_of(**changes)
        penalised = classifier_of(classifier_gradient_penalty=1.0, **changes)
        source = classifier_of()
        for classifier in (plain, penalised):
            with torch.no_grad():
                pairs = zip(classifier.parameters(), source.parameters(), strict=True)
                for parameter, value in pairs:
                    parameter.copy_(value.expand_as(parameter))
        difference = loss_of(penalised, real, imagined) - loss_of(plain, real, imagined)
        penalties.append(difference.item())
    assert penalties[1] == pytest.approx(penalties[0], rel=1e-4)


def test_input_noise_has_the_given_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = classifier_of(classifier_input_noise=0.3)
    seen: list[Tensor] = []
    forward = classifier.networks.forward

    def record(inputs: Tensor) -> Tensor:
        seen.append(inputs.detach())
        return forward(inputs)

    monkeypatch.setattr(classifier.networks, "forward", record)
    real, imagined = halves(3000)
    loss_of(classifier, real, imagined)
    noise = seen[0] - torch.cat([real, imagined])
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.3, abs=0.01)


def test_noise_is_left_out_of_the_logit() -> None:
    noisy, plain = classifier_of(classifier_input_noise=0.3), classifier_of()
    real, imagined = halves()
    assert torch.equal(noisy(real), plain(real))
    assert loss_of(noisy, real, imagined) != loss_of(plain, real, imagined)


def test_logit_becomes_the_log_density_ratio() -> None:
    """Changes from p = N(0.5, 1) and q = N(-0.5, 1), for which log p/q at x is x."""
    classifier = classifier_of(classifier_hidden_sizes=(32,))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(1500):
        same = torch.randn(256, 2, generator=generator)  # (s, a), the same in both halves
        change = torch.randn(2, 256, 1, generator=generator)
        loss, *_ = classifier.loss(
            torch.cat([same, change[0] + 0.5], dim=1),
            torch.cat([same, change[1] - 0.5], dim=1),
            generator,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    grid = torch.linspace(-1.5, 1.5, 31)
    state_action = torch.randn(200, 1, 2, generator=generator)
    inputs = torch.cat(
        [state_action.expand(200, 31, 2), grid.view(1, 31, 1).expand(200, 31, 1)], dim=2
    )
    with torch.no_grad():
        logits = classifier(inputs.reshape(-1, 3)).view(200, 31)
    assert float((logits.mean(0) - grid).abs().max()) < 0.2
    assert float((logits - grid).square().mean().sqrt()) < 0.25
    best_loss = functional.softplus(-(torch.randn(100_000, generator=generator) + 0.5)).mean()
    assert loss.item() == pytest.approx(best_loss.item(), abs=0.06)


def test_smoothed_labels_bound_the_logit_of_certain_rows() -> None:
    """With targets s/2 and 1 - s/2 the best logit of separable halves is log((2 - s) / s)."""
    classifier = classifier_of(classifier_label_smoothing=0.2)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.03)
    real, imagined = torch.full((8, 3), 1.0), torch.full((8, 3), -1.0)
    for _ in range(500):
        optimizer.zero_grad()
        loss_of(classifier, real, imagined).backward()
        optimizer.step()
    assert classifier(real)[0].item() == pytest.approx(math.log(9), abs=0.02)
    assert classifier(imagined)[0].item() == pytest.approx(-math.log(9), abs=0.02)
