"""Policies in KServe's model server, which speaks the Open Inference Protocol v2 over HTTP and gRPC.

The protocol is KServe's. Ours is what it takes from us: a `Model`, a repository, and a `DataPlane` that lets requests
in through the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.constants.constants import INFERENCE_CONTENT_LENGTH_HEADER
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import to_http_parameters
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from nimbleq.errors import NimbleqError
from nimbleq.serve import metrics
from nimbleq.serve.deadline import deadline_of, of_headers
from nimbleq.serve.gate import TICKET, Gate, Ticket
from nimbleq.serve.policy import Served
from nimbleq.serve.refusal import RefusedError, Why
from nimbleq.serve.returns import MonitorOf, Watching, no_monitor
from nimbleq.serve.signature import DATATYPES
from nimbleq.serve.streams import Sequence
from nimbleq.types import Array

GRPC = {
    Why.INVALID: StatusCode.INVALID_ARGUMENT,
    Why.CONFLICT: StatusCode.FAILED_PRECONDITION,
    Why.FULL: StatusCode.RESOURCE_EXHAUSTED,
    Why.STOPPING: StatusCode.UNAVAILABLE,
    Why.EXPIRED: StatusCode.DEADLINE_EXCEEDED,
}
"""Why a request is refused → gRPC's status."""


@contextlib.contextmanager
def transported() -> Iterator[None]:
    """Refusals become what KServe's two servers pass on with their status: an exception of gRPC."""
    try:
        yield
    except RefusedError as error:
        raise GrpcException(str(error), GRPC[error.why]) from None


class PolicyModel(Model):  # type: ignore[misc]
    """A policy as KServe's model."""

    def __init__(self, served: Served) -> None:
        super().__init__(served.name)
        self.served, self.ready = served, True

    def get_input_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [tensor.described() for tensor in self.served.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return [tensor.described() for tensor in self.served.signature.outputs]

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Decide.

        Raises:
            RefusedError: the request is not what the policy takes.
        """
        if not isinstance(payload, InferRequest):
            raise RefusedError(Why.INVALID, f"this server speaks version 2: POST /v2/models/{self.name}/infer")
        known = tuple(tensor.name for tensor in self.served.signature.outputs)
        wanted = tuple(output.name for output in payload.request_outputs or ()) or known
        for name in wanted:
            if name not in known:
                raise RefusedError(Why.INVALID, f"there is no output {name!r}: it gives {', '.join(known)}")
        answers = self.served.decide(_arrays(payload), wanted, Sequence.of(_parameters(payload)))
        return InferResponse(
            payload.id or "", self.name, [_output(name, array, payload) for name, array in answers.items()],
            model_version=self.served.digest[:12], from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs, requested_outputs=payload.request_outputs,
        )  # fmt: skip


def _arrays(payload: InferRequest) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for tensor in payload.inputs:
        if tensor.datatype not in DATATYPES.values():
            raise RefusedError(Why.INVALID, f"{tensor.name} is {tensor.datatype}: it must be numbers or BOOL")
        if not all(isinstance(side, int) and side > 0 for side in tensor.shape):
            raise RefusedError(Why.INVALID, f"{tensor.name} has the shape {tensor.shape}: it must be positive numbers")
        try:
            arrays[tensor.name] = tensor.as_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            text = f"{tensor.name} is not {tensor.datatype} {tensor.shape}: {error}"
            raise RefusedError(Why.INVALID, text) from None
    return arrays


def _output(name: str, array: Array, payload: InferRequest) -> InferOutput:
    output = InferOutput(name, list(array.shape), DATATYPES[str(array.dtype)], array)
    if payload.from_grpc:
        output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
    return output


class Policies(ModelRepository):  # type: ignore[misc]
    """The policies by name; a load takes up the artefact that lies at the policy's path now.

    Attributes:
        swapped: called with each new one.
        monitors: of the live returns, by name; None for one that is not certified.
    """

    def __init__(
        self, served: Mapping[str, Served], swapped: Callable[[Served], None], monitor: MonitorOf = no_monitor
    ) -> None:
        super().__init__()
        self.served, self.swapped = dict(served), swapped
        self.monitors: dict[str, Watching | None] = {}
        self._monitor = monitor
        self._loading = asyncio.Lock()
        for policy in served.values():
            self._put(policy, None)

    @property
    def paths(self) -> dict[str, Path]:
        """Where each one comes from."""
        return {name: policy.path for name, policy in self.served.items()}

    def _put(self, new: Served, old: Served | None) -> None:
        self.served[new.name] = new
        self.monitors[new.name] = self._monitor(new.path)
        self.update(PolicyModel(new))  # one assignment: a request has the old one or the new one
        metrics.loaded(new, old)

    async def load(self, name: str) -> bool:
        """Take up the artefact that lies there now; requests go on meanwhile, with the old one.

        Raises:
            RefusedError: it is damaged, or for other clients; the old one stays.
        """
        if name not in self.served:
            raise ModelNotFound(name)
        async with self._loading:
            old = self.served[name]
            try:
                new = await asyncio.to_thread(old.successor)
            except RefusedError:
                raise
            except NimbleqError as error:
                raise RefusedError(Why.CONFLICT, f"{error}; the one before is still served") from None
            self._put(new, old)
        self.swapped(new)
        return True


class Extension(ModelRepositoryExtension):  # type: ignore[misc]
    """Loading and unloading over the wire."""

    async def load(self, model_name: str) -> dict[str, Any]:
        """As the protocol's servicer expects it."""
        with transported():
            await self._model_registry.load(model_name)
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, Any]:
        """As the protocol's servicer expects it."""
        await super().unload(model_name)
        return {"name": model_name, "unload": True}


class GatedPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane behind a gate.

    Args:
        policies: the models.
        gate: lets one request in at a time.
    """

    def __init__(self, policies: Policies, gate: Gate) -> None:
        super().__init__(policies)
        self._gate = gate

    async def ready(self) -> bool:
        """Not while it stops."""
        return not self._gate.stopping

    def decode(self, body: Any, headers: Any, protocol_version: str = "v1", model_name: str | None = None) -> Any:
        """As KServe's, with one line for what its reader trips over; without the header a body is JSON to its end."""
        if isinstance(body, bytes):
            headers = {INFERENCE_CONTENT_LENGTH_HEADER: str(len(body)), **(headers or {})}
        with transported():
            try:
                return super().decode(body, headers, protocol_version, model_name)
            except InvalidInput:
                raise
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RefusedError(Why.INVALID, f"the request is malformed: {type(error).__name__}: {error}") from None

    async def infer(self, model_name: str, request: Any, headers: Any = None) -> Any:
        """Answer within the deadline, or refuse."""
        ticket = TICKET.get()
        with transported():
            if ticket is not None:  # its turn has come already
                ticket.deadline = min(ticket.deadline, deadline_of(_parameters(request), ticket.arrived))
                ticket.check()
                return await super().infer(model_name, request, headers)
            arrived = monotonic()
            name = model_name if model_name in self.model_registry.get_models() else ""
            try:
                given = {**of_headers(headers or {}), **_parameters(request)}
                ticket = Ticket(arrived, deadline_of(given, arrived))
                async with self._gate.turn(ticket):
                    answer = await super().infer(model_name, request, headers)
                ticket.check("comes too late")
            except RefusedError as error:
                metrics.refused(name, "grpc", error.why)
                raise
            except asyncio.CancelledError:  # gRPC's own deadline passed, or the client went away
                metrics.refused(name, "grpc", Why.EXPIRED)
                raise
            metrics.answered(name, "grpc", arrived)
            return answer


def _parameters(request: Any) -> dict[str, Any]:
    if not isinstance(request, InferRequest) or not request.parameters:
        return {}
    return dict(to_http_parameters(request.parameters))


KNOWN_ERRORS = (InvalidInput, ModelNotFound, GrpcException, NotImplementedError)
"""Faults of a request, which are its sender's to know and not the log's."""
