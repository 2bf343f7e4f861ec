"""One Ray for all tests that need one."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """Ray on this machine, to which every training in this process connects."""
    module = pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of what it will do some day
    os.environ.setdefault("RAY_worker_niceness", "0")  # else its processes starve beside another test
    module.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    module.shutdown()
