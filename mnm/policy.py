"""The tanh-Gaussian policy: in torch for learning, in NumPy for stepping environments fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnm.normaliser import ObservationNormaliser

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
NORMALISER_MEAN, NORMALISER_SCALE = "normaliser.mean", "normaliser.scale"  # among its weights
_ZERO = np.zeros((), np.float32)


class TanhGaussianPolicy(nn.Module):
    """Gaussian policy squashed by tanh and scaled to the action box (Haarnoja et al. 2018).

    Actions are in the environment's units. Log-probabilities are those of the unscaled action in
    (-1, 1), so that `target_entropy` means the same in every task.

    Args:
        observation_dim: width of an observation.
        action_low: [act] smallest actions.
        action_high: [act] largest actions.
        hidden_sizes: widths of the ReLU hidden layers.
        normalise: whether observations are scaled by an `ObservationNormaliser` first.
    """

    action_center: Tensor
    action_half_range: Tensor

    def __init__(
        self,
        observation_dim: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        hidden_sizes: Sequence[int] = (256, 256),
        normalise: bool = False,
    ) -> None:
        super().__init__()
        low = torch.as_tensor(action_low, dtype=torch.float32)
        high = torch.as_tensor(action_high, dtype=torch.float32)
        self.register_buffer("action_center", (high + low) / 2)
        self.register_buffer("action_half_range", (high - low) / 2)
        self.normaliser = ObservationNormaliser(observation_dim) if normalise else None
        widths = [observation_dim, *hidden_sizes, 2 * low.numel()]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(widths)
        )

    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation [N, act] of the Gaussian before the tanh."""
        hidden = observations if self.normaliser is None else self.normaliser(observations)
        for layer in self.layers[:-1]:
            hidden = functional.relu(layer(hidden))
        mean, log_std = self.layers[-1](hidden).chunk(2, dim=-1)
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(log_std) + 1)
        return mean, log_std

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparameterised actions and their log-probabilities.

        Args:
            observations: [N, obs].
            noise: [N, act] standard normal.

        Returns:
            Actions [N, act] in the environment's units, log-probabilities [N] on the (-1, 1) scale.
        """
        mean, log_std = self.distribution(observations)
        unsquashed = mean + log_std.exp() * noise
        # log |d tanh(u)/du| = 2 (log 2 - u - softplus(-2u)), stable for large |u|.
        log_slope = 2 * (math.log(2) - unsquashed - functional.softplus(-2 * unsquashed))
        log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return self.scale(torch.tanh(unsquashed)), (log_density - log_slope).sum(-1)

    def explore(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Sampled actions [N, act] in the environment's units; `generator` on the same device."""
        shape = (len(observations), self.action_center.numel())
        noise = torch.randn(shape, generator=generator, device=observations.device)
        return self.sample(observations, noise)[0]

    def deterministic(self, observations: Tensor) -> Tensor:
        """Actions [N, act] at the mode of the Gaussian, in the environment's units."""
        return self.scale(torch.tanh(self.distribution(observations)[0]))

    def scale(self, squashed: Tensor) -> Tensor:
        """Actions in (-1, 1) in the environment's units."""
        return self.action_center + self.action_half_range * squashed


class NumpyPolicy:
    """The same policy evaluated in NumPy: a few microseconds a step, for the collectors.

    Args:
        weights: `TanhGaussianPolicy.state_dict()` as NumPy arrays.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        count = sum(name.endswith(".weight") for name in weights)
        self._layers = [
            (np.ascontiguousarray(weights[f"layers.{i}.weight"].T), weights[f"layers.{i}.bias"])
            for i in range(count)
        ]
        if NORMALISER_MEAN in weights:
            # Part of the first layer, so that a step costs no more.
            scale = weights[NORMALISER_SCALE]
            weight, bias = self._layers[0]
            weight = weight / scale[:, None]
            self._layers[0] = (weight, bias - weights[NORMALISER_MEAN].dot(weight))
        self._center = weights["action_center"]
        self._half_range = weights["action_half_range"]

    def __call__(
        self, observations: np.ndarray, generator: np.random.Generator | None
    ) -> np.ndarray:
        """Actions [N, act] for observations [N, obs]; the mode where `generator` is None."""
        # A few rows at a time: each call counts more than its arithmetic, hence `dot` and in place.
        hidden = observations
        for weight, bias in self._layers[:-1]:
            hidden = hidden.dot(weight)
            hidden += bias
            np.maximum(hidden, _ZERO, out=hidden)
        weight, bias = self._layers[-1]
        output = hidden.dot(weight)
        output += bias
        width = len(self._center)
        mean = output[:, :width]
        if generator is None:
            actions = np.tanh(mean)
        else:
            actions = np.tanh(output[:, width:])
            actions *= 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
            actions += 0.5 * (LOG_STD_MAX + LOG_STD_MIN)
            np.exp(actions, out=actions)
            actions *= generator.standard_normal(actions.shape, dtype=np.float32)
            actions += mean
            np.tanh(actions, out=actions)
        actions *= self._half_range
        actions += self._center
        return actions


def numpy_weights(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's state as NumPy arrays, detached from the live parameters."""
    return {
        name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()
    }


def load_numpy_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Loads what `numpy_weights` returned into a module of the same shape."""
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
