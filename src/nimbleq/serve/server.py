"""The server from start to graceful stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import signal
import socket
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import uvloop
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException
from kserve import ModelServer, model_server
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer
from watchfiles import awatch

from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.artefact import digest
from nimbleq.serve import metrics
from nimbleq.serve.admission import Admission
from nimbleq.serve.gate import Gate
from nimbleq.serve.http import GRPC, KNOWN_ERRORS, Extension, GatedPlane, Policies
from nimbleq.serve.policy import Served
from nimbleq.serve.protocol import RefusingProtocol
from nimbleq.serve.returns import MonitorOf, add_route, no_monitor

Say = Callable[[str], None]
GRACE_SECONDS = 30
"""In which what was let in is answered after a stop."""
LAME_SECONDS = 0.3
"""In which a stopping server still answers, that it stops: clients with an open connection learn it."""
_STATUS: Mapping[StatusCode, int] = {code: why.status for why, code in GRPC.items()}


def serve(
    served: Mapping[str, Served], port: int, grpc_port: int | None, queue: int, say: Say,
    swapped: Callable[[Served], None], monitor: MonitorOf = no_monitor,
) -> None:  # fmt: skip
    """Serve until SIGTERM or Ctrl-C, then answer what was let in and return.

    Args:
        served: the policies by name.
        port, grpc_port: on all interfaces; None: no gRPC.
        queue: most requests that are in at once.
        say: one line for the person at the terminal.
        swapped: called with each new artefact that was taken up.
        monitor: makes the field monitor of an artefact.

    Raises:
        ConfigError: a port is taken.
    """
    for one in (port, grpc_port):
        check_free(one)
    logging.config.dictConfig(_LOGGING)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())  # KServe asks for one before it runs its own
    gate, policies = Gate(queue), Policies(served, swapped, monitor)
    metrics.DEPTH.set_function(lambda: gate.depth)
    metrics.GuardCounts(policies.served, policies.monitors)
    add_route(app, policies.monitors)
    server = ModelServer(
        http_port=port, grpc_port=grpc_port or 0, enable_grpc=grpc_port is not None, registered_models=policies,
        enable_latency_logging=False, grace_period=GRACE_SECONDS,
    )  # fmt: skip
    server.dataplane = GatedPlane(policies, gate)
    server.model_repository_extension = Extension(policies)
    model_server.RESTServer = partial(GatedRest, admission=Admission(app, gate, policies.get_models))
    app.add_exception_handler(GrpcException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    stopped = asyncio.Event()
    server.servers.append(_watch(policies, say, stopped))
    server.servers.append(_stop_gracefully(gate, say, stopped))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)}
    gc.collect()
    gc.freeze()  # a collection that walks all of KServe's objects would hold up the loop for 100 ms
    try:
        server.start([])
    finally:
        gc.unfreeze()
        for number, handler in before.items():
            signal.signal(number, handler)


class GatedRest(RESTServer):  # type: ignore[misc]
    """KServe's HTTP server behind the gate: a refusal costs little beside an answer.

    Args:
        admission: before all layers of KServe and Starlette.
        words, named: KServe's.
    """

    def __init__(self, *words: Any, admission: Admission, **named: Any) -> None:
        super().__init__(*words, **named)
        self.config.app, self.config.http = admission, partial(RefusingProtocol, admission=admission)

    def _add_middlewares(self, app: FastAPI) -> None:
        """None: KServe's is a clock for a log that is off here, whose system calls took a fifth of the time."""


def check_free(port: int | None) -> None:
    """Raise `ConfigError` if a port cannot be listened at."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot listen at port {port}: {why}; choose another one") from None


async def _watch(policies: Policies, say: Say, stopped: asyncio.Event) -> None:
    """Take up a new artefact as soon as it lies in a policy's folder."""
    parents = {path.absolute().parent for path in policies.paths.values()}
    complained: dict[str, str] = {}
    async for _ in awatch(*parents, debounce=200, step=50, rust_timeout=500, stop_event=stopped):
        for name in list(policies.get_models()):
            await _renew(policies, name, complained, say)


async def _renew(policies: Policies, name: str, complained: dict[str, str], say: Say) -> None:
    served = policies.served[name]
    try:
        found = digest(served.path)
    except FileError:
        return  # half written: what completes it is seen, too
    if found in (served.digest, complained.get(name)):
        return
    try:
        await policies.load(name)
    except Exception as error:  # noqa: BLE001 (whatever is wrong with the new one, the old one is served on)
        complained[name] = found
        say(f"{name}: not taken up: {error}")
    else:
        say(f"{name}: serves {policies.served[name].digest[:12]} now, in place of {served.digest[:12]}")


async def _stop_gracefully(gate: Gate, say: Say, stopped: asyncio.Event) -> None:
    """At a signal: let in no more, answer what is in, then let KServe stop its servers."""
    asked = asyncio.Event()
    while not callable(before := signal.getsignal(signal.SIGTERM)) or "handle_exit" not in str(before):
        await asyncio.sleep(0.01)  # until uvicorn has put its handlers in place
    loop = asyncio.get_running_loop()

    def ask(number: int, _: Any) -> None:
        loop.call_soon_threadsafe(asked.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    await asked.wait()
    gate.stopping = True
    say(f"stopping: {gate.depth} requests are still answered")
    await asyncio.sleep(LAME_SECONDS)
    await asyncio.wait_for(gate.drained(), GRACE_SECONDS)
    stopped.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, before)
    signal.raise_signal(signal.SIGTERM)


async def _refused(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, GrpcException)
    return JSONResponse({"error": error.details}, _STATUS.get(error.status_code, 500))


async def _malformed(_: Any, error: Exception) -> JSONResponse:
    """FastAPI lists every alternative that a value might have fitted: one line of the first of each place."""
    assert isinstance(error, RequestValidationError)
    places: dict[str, str] = {}
    for each in error.errors():
        where = ".".join(str(part) for part in each["loc"] if part not in ("body", "InferenceRequest", "bytes"))
        places.setdefault(where or "body", each["msg"])
    text = "; ".join(f"{where}: {what}" for where, what in list(places.items())[:3])
    return JSONResponse({"error": f"the request is malformed: {text}"}, 400)


class _Unknown(logging.Filter):
    """Lets through what is no fault of a request: those are answered, and counted."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], KNOWN_ERRORS))


_HANDLER = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "filters": ["unknown"]}
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"unknown": {"()": _Unknown}},
    "handlers": {"unknown": _HANDLER},
    "loggers": {
        name: {"handlers": ["unknown"], "level": level, "propagate": False}
        for name, level in (("kserve", "ERROR"), ("kserve.trace", "ERROR"), ("uvicorn", "ERROR"))
    }
    | {"uvicorn.access": {"propagate": False}},  # else uvicorn prepares a line for each response, and drops it
}
