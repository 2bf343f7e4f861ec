"""``nimbleq serve``: decisions over HTTP, gRPC and shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.errors import NimbleqError
from nimbleq.graph.artefact import load_artefact
from nimbleq.verbs.common import Output, artefact_and_run

if TYPE_CHECKING:
    from nimbleq.compress.certify.monitor import Monitor
    from nimbleq.serve.policy import Served


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Answer decisions of policies, until SIGTERM or Ctrl-C; then what was let in is answered, and nothing lost.

    HTTP and gRPC speak the Open Inference Protocol v2: POST /v2/models/NAME/infer with the inputs that GET
    /v2/models/NAME lists; the outputs are action, as the environment takes it, and q. Health is at /v2/health/ready,
    metrics are at /metrics. A request may carry a deadline: the parameter timeout (microseconds that are left) or
    deadline (microseconds since 1970), or the headers x-timeout-us and x-deadline-us; late work is refused, not
    computed.

    A new artefact in a policy's folder is taken up as soon as it is complete (or by POST
    /v2/repository/models/NAME/load), without a lost request; one that takes other observations is refused.

    There is no password, and it listens on all interfaces: let only those in who may ask. Needs nimbleq[serve], and
    nimbleq[shm] for --shm.

    Attributes:
        artefacts: artefact folders, or run directories with one compressed artefact; NAME=PATH gives it another name
            than its folder's.
        port: of HTTP.
        grpc_port: of gRPC; None: without.
        shm: serve shared memory, too, under this name: see nimbleq.serve.client.
        queue: requests that are in at once; more are refused (503, RESOURCE_EXHAUSTED).
    """

    artefacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    port: int = 8080
    grpc_port: int | None = 8081
    shm: str | None = None
    queue: int = 64


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Serve until asked to stop."""
    from nimbleq.serve.names import named_paths
    from nimbleq.serve.policy import Served

    served = {
        name: Served.load(name, path)
        for name, path in named_paths(args.artefacts, lambda path: artefact_and_run(Path(path))[0]).items()
    }
    for policy in served.values():
        console.say(f"{policy.name}: {policy.path}, digest {policy.digest[:12]}, {policy.runtime.status.reason}")
    result = {
        "models": [{"name": one.name, "artefact": str(one.path), "digest": one.digest} for one in served.values()]
    }
    from nimbleq.serve.server import check_free, serve

    for port in (args.port, args.grpc_port):
        check_free(port)
    grpc = "" if args.grpc_port is None else f", gRPC at port {args.grpc_port}"
    shared = "" if args.shm is None else f", shared memory {args.shm!r}"
    with shared_memory(args.shm, served) as swapped:
        console.say(
            f"POST http://localhost:{args.port}/v2/models/{next(iter(served))}/infer{grpc}{shared}; Ctrl-C stops"
        )
        serve(served, args.port, args.grpc_port, args.queue, console.say, swapped, _monitor)
    return result, True


def _monitor(path: Path) -> Monitor | None:
    """The field monitor of an artefact; None where nothing was certified."""
    from nimbleq.compress.certify.monitor import Monitor, Promise

    try:
        return Monitor(Promise.of(load_artefact(path).certificate or {}))
    except NimbleqError:
        return None


@contextmanager
def shared_memory(name: str | None, served: Mapping[str, Served]) -> Iterator[Callable[[Served], None]]:
    """The process of the shared memory, if one is wanted; yields what takes up a new artefact."""
    if name is None:
        yield lambda new: None
        return
    from nimbleq.serve.metrics import SharedMemoryCounts
    from nimbleq.serve.worker import SharedMemory

    with SharedMemory(name, served) as worker:
        SharedMemoryCounts(worker.counts)
        yield worker.swap
