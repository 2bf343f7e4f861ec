"""Fitting hidden layers to a teacher's, in PyTorch."""

from __future__ import annotations

from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.bridge.torch_graph import GraphModule, from_module, to_module
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fit_torch import obs_tensor, one_thread
from nimbleq.compress.passes.targets import draws
from nimbleq.graph.graph import Graph

_UPDATES = 50


class Regressor(nn.Module):
    """``guided [B, *G] → hint [B, *H]``, linear.

    Between two feature maps it is a convolution whose kernel leaves the size of the hint, as in the paper; a hint that
    is the larger map is pooled to the size of the guided one (`target`). Otherwise it is a layer between flat features.
    """

    def __init__(self, guided: torch.Size, hint: torch.Size) -> None:
        super().__init__()
        self.size: tuple[int, int] | None = None
        self.layer: nn.Module
        if len(guided) == len(hint) == 3:
            self.size = (min(guided[1], hint[1]), min(guided[2], hint[2]))
            kernel = (guided[1] - self.size[0] + 1, guided[2] - self.size[1] + 1)
            self.layer = nn.Conv2d(guided[0], hint[0], kernel)
        else:
            self.layer = nn.Sequential(nn.Flatten(), nn.Linear(guided.numel(), hint.numel()))

    def forward(self, guided: Tensor) -> Tensor:
        """The hint as it is predicted."""
        predicted: Tensor = self.layer(guided)
        return predicted

    def target(self, hint: Tensor) -> Tensor:
        """What has to be predicted."""
        return hint.flatten(1) if self.size is None else F.adaptive_avg_pool2d(hint, self.size)


def hint_fit(student: Graph, teacher: Graph, guided: str, hint: str, context: Context) -> Graph:
    """``student`` with the layers up to its tensor ``guided`` trained to predict the teacher's tensor ``hint``.

    The error is a share of the hint's variance, so that the step size of distillation fits.
    """
    config, seen = context.distill, context.from_teacher()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        module, giver = to_module(student), to_module(teacher)
        obs = obs_tensor(student, seen.obs)
        regressor = Regressor(_shape(module, obs, guided), _shape(giver, obs, hint))
        parameters = [*module.parameters(), *regressor.parameters()]
        optimizer = make_optimizer(lambda: torch.optim.Adam(parameters, lr=config.lr))
        sizes = (len(obs),)
        for update in range(config.updates):
            if update % _UPDATES == 0:
                context.tick(update, config.updates, "teaching features")
                count = min(_UPDATES, config.updates - update)
                picks = torch.from_numpy(draws(sizes, config.batch_size, context.seed, update, count))
            batch = obs[picks[update % _UPDATES]]
            with torch.no_grad():
                target = regressor.target(giver.tensors(batch)[hint])
            loss = F.mse_loss(regressor(module.tensors(batch)[guided]), target) / target.var().clamp_min(1e-12)
            optimizer.param_groups[0]["lr"] = config.lr * 0.5 * (1 + cos(pi * update / config.updates))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return from_module(student, module)


def _shape(module: GraphModule, obs: Tensor, tensor: str) -> torch.Size:
    with torch.no_grad():
        return module.tensors(obs[:2])[tensor].shape[1:]
