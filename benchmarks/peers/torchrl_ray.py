"""DQN on torchrl's Ray collectors, on environments that sleep: ``python -m benchmarks.peers.torchrl_ray --actors 4``.

Batches of 16 steps of one environment an actor, taken as they come (``sync=False``), updates of 64 every 8 steps,
64-64. Its replay is uniform: the compiled part that prioritises in torchrl 0.14 does not load with PyTorch 2.13. Prints
one JSON object.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.meter import CHUNK, SAMPLES_PER_INSERT, FinishedError, Meter, options
from benchmarks.sleeping import Sleeping


def environment(folder: str) -> Any:
    """One of them, as torchrl's."""
    from torchrl.envs import GymWrapper

    return GymWrapper(Sleeping(folder), categorical_action_encoding=True)


def rates(actors: int, delays_ms: list[float], seconds: float, windows: int) -> dict[str, Any]:
    """Steps a second in each window of each delay."""
    import ray
    import torch
    from tensordict.nn import TensorDictSequential
    from torchrl.collectors.distributed import RayCollector
    from torchrl.data import Categorical, LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.modules import MLP, EGreedyModule, QValueActor
    from torchrl.objectives import DQNLoss

    # Ray 2.60 has no such call any more; torchrl 0.14 makes it after each batch, "should not be necessary" as it says.
    ray.internal.free = lambda refs: None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meter = Meter(folder, actors, delays_ms, seconds, windows)
        values = QValueActor(
            MLP(in_features=4, out_features=2, num_cells=[64, 64]), in_keys=["observation"], spec=Categorical(2),
            action_space="categorical",
        )  # fmt: skip
        policy = TensorDictSequential(values, EGreedyModule(Categorical(2), eps_init=0.4, eps_end=0.4))
        collector = RayCollector(
            [partial(environment, name)] * actors, policy, frames_per_batch=CHUNK,
            total_frames=10**9, sync=False, update_after_each_batch=True,
            ray_init_config={"address": "local", "include_dashboard": False, "log_to_driver": False},
            remote_configs={"num_cpus": 0, "num_gpus": 0},
        )  # fmt: skip
        loss = DQNLoss(values, action_space="categorical", delay_value=False)
        optimizer = torch.optim.Adam(values.parameters(), 1e-3)
        replay = TensorDictReplayBuffer(storage=LazyTensorStorage(200_000), batch_size=64)
        collector.update_policy_weights_(policy)
        steps = 0
        try:
            for batch in collector:
                replay.extend(batch.reshape(-1))
                steps += batch.numel()
                for _ in range(batch.numel() * SAMPLES_PER_INSERT // 64 if steps > 64 else 0):
                    sample = replay.sample()
                    optimizer.zero_grad()
                    loss(sample)["loss"].backward()
                    optimizer.step()
                meter(steps)
        except FinishedError:
            return meter.result()
        finally:
            collector.shutdown()
    raise AssertionError("a collector without an end has ended")


if __name__ == "__main__":
    print(json.dumps(rates(*options(__doc__))), flush=True)
    os._exit(0)  # threads of the collector are left over, for which Python would wait
