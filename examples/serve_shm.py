"""Ask a decision server through shared memory, from another process on the same machine.

    nimbleq serve runs/ll/artefacts/small --shm robot
    python examples/serve_shm.py robot

Prints decisions on random observations of the first policy, and how long a round trip takes.
"""

import sys
from statistics import median
from time import perf_counter_ns

import numpy as np

from nimbleq.serve.client import connect


def main(name: str) -> None:
    with connect(name) as server:
        policy = server.policy(server.policies[0])
        shape = policy.interface.space.shape  # of a policy that takes one array
        many = np.random.default_rng(0).normal(size=(1000, *shape)).astype(np.float32)
        print(f"{server.policies[0]}: actions {[policy.act(obs, timeout_us=1e6) for obs in many[:5]]}")
        times = []
        for obs in many:
            start = perf_counter_ns()
            policy.act(obs)
            times.append((perf_counter_ns() - start) / 1e3)
        print(f"{len(times)} round trips, half of them below {median(times):.1f} µs")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "robot")
