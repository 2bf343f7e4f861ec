"""Ray: started on this machine, or joined where it runs."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from nimbleq.config import DistributedConfig
from nimbleq.errors import ConfigError
from nimbleq.stopping import SIGNALS


@contextmanager
def cluster(config: DistributedConfig) -> Iterator[None]:
    """Connected to Ray where there are actors or learners; afterwards no more, and what was started ends.

    Where the program is connected already, that connection is used and stays. Handlers of signals stay as they are.

    Raises:
        ConfigError: Ray is not installed, or none answers at that address.
    """
    if config.actors == 0 and config.learners == 1:
        yield
        return
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    with redirect_stdout(sys.stderr):  # Ray prints its warnings to standard output, which is for results
        _connect(ray, config.ray)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except Exception as error:  # noqa: BLE001 (Ray raises many kinds, a bare one among them)
        where = f"at {address}" if address else "on this machine"
        raise ConfigError(f"Ray cannot be reached {where}: {' '.join(str(error).split())}") from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def load_ray() -> Any:
    """Ray's module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise ConfigError(
            "--actors and --learners need Ray, which is not installed: pip install 'nimbleq[ray]'"
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray
