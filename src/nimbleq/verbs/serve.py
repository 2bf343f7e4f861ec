"""``nimbleq serve``: decisions over HTTP, gRPC and shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.verbs.common import Output, artefact_and_run


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Answer decisions of policies, until SIGTERM or Ctrl-C; then what was let in is answered, and nothing lost.

    HTTP and gRPC speak the Open Inference Protocol v2: POST /v2/models/NAME/infer with the inputs that GET
    /v2/models/NAME lists; the outputs are ACTION, as the environment takes it, and q. Health: /v2/health/ready, metrics:
    /metrics. A request may carry a deadline: the parameter timeout (microseconds that are left) or deadline
    (microseconds since 1970), or the headers x-timeout-us and x-deadline-us; late work is refused, not computed.

    A new artefact in a policy's folder is taken up as soon as it is complete (or by POST
    /v2/repository/models/NAME/load), without a lost request; one that takes other observations is refused.

    There is no password, and it listens on all interfaces: let only those in who may ask. Needs nimbleq[serve], and
    nimbleq[shm] for --shm.

    Attributes:
        artefacts: artefact folders, or run directories with one compressed artefact; NAME=PATH gives it another name
            than its folder's.
        port: of HTTP; None: shared memory only.
        grpc_port: of gRPC; None: without.
        shm: serve shared memory, too, under this name: see nimbleq.serve.client.
        queue: requests that are in at once; more are refused (503, RESOURCE_EXHAUSTED).
    """

    artefacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    port: int | None = 8080
    grpc_port: int | None = 8081
    shm: str | None = None
    queue: int = 64


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Serve until asked to stop."""
    from nimbleq.errors import ConfigError
    from nimbleq.serve.names import named_paths
    from nimbleq.serve.policy import Served

    if args.port is None and args.shm is None:
        raise ConfigError("nothing to listen at: give --port or --shm NAME")
    served = {
        name: Served.load(name, path)
        for name, path in named_paths(args.artefacts, lambda path: artefact_and_run(Path(path))[0]).items()
    }
    for policy in served.values():
        console.say(f"{policy.name}: {policy.path}, digest {policy.digest[:12]}, {policy.runtime.status.reason}")
    result = {"models": [{"name": one.name, "artefact": str(one.path), "digest": one.digest} for one in served.values()]}
    from nimbleq.serve.server import serve

    assert args.port is not None
    grpc = "" if args.grpc_port is None else f", grpc at port {args.grpc_port}"
    console.say(f"http://localhost:{args.port}/v2/models/{next(iter(served))}/infer{grpc}; Ctrl-C stops")
    serve(served, args.port, args.grpc_port, args.queue, console.say, lambda new: None)
    return result, True
