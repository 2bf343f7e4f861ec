"""The other end of the shared memory of ``nimbleq serve --shm NAME``: decisions in microseconds from another process.

    with connect("robot") as server:
        policy = server.policy("small")
        action = policy.act(obs, timeout_us=500)

A connection belongs to one thread. Needs the extra ``shm``.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from time import monotonic_ns, sleep
from types import TracebackType
from typing import Any, NamedTuple, Self

import iceoryx2 as iox2
import numpy as np

from nimbleq.errors import NimbleqError, ObservationError
from nimbleq.graph.interface import Interface, as_mask
from nimbleq.graph.interface_codec import from_dict
from nimbleq.graph.space import Path, leaves
from nimbleq.serve.record import DEADLINE, STATUS, VALUES, WHYS, Buffer, Records, inputs, words
from nimbleq.serve.refusal import RefusedError, Why
from nimbleq.serve.signature import ACTION, MASK, Q, Signature
from nimbleq.types import Array

_SPINS = 256
"""Polls between two looks at the clock and at whether the server lives."""


class ServerGoneError(NimbleqError):
    """Nobody serves this shared memory, or no more."""


class Decision(NamedTuple):
    """What the server answers.

    Attributes:
        action: as the environment takes it.
        q: ``float32[A]``.
    """

    action: int | Array
    q: Array


def connect(name: str, wait_seconds: float = 2.0) -> Server:
    """The server of the shared memory ``name``.

    Raises:
        ServerGoneError: there is none within ``wait_seconds``.
    """
    iox2.set_log_level(iox2.LogLevel.Fatal)
    node = iox2.NodeBuilder.new().signal_handling_mode(iox2.SignalHandlingMode.Disabled).create(iox2.ServiceType.Ipc)
    until = monotonic_ns() + int(wait_seconds * 1e9)
    while True:
        try:
            return Server(name, node, until)
        except ServerGoneError:
            if monotonic_ns() > until:
                raise
            sleep(0.02)


class Server:
    """A connection; see `connect`.

    Attributes:
        policies: their names.
    """

    def __init__(self, name: str, node: Any, until: int) -> None:
        self._name, self._node = name, node
        self._open: list[Policy] = []
        self._about = _described(name, node, until)
        self.policies = tuple(self._about)

    def policy(self, name: str) -> Policy:
        """One of the policies.

        Raises:
            NimbleqError: it is not served.
        """
        if name not in self._about:
            raise NimbleqError(f"{self._name!r} serves no policy {name!r}: it has {', '.join(self.policies)}")
        about = self._about[name]
        interface = from_dict(about["interface"])
        signature = Signature.of(interface, about["masked"], about["guarded"])
        records = Records.of(signature)
        service = _service(self._node, f"nimbleq/{self._name}/{name}", words(records.request), words(records.answer))
        self._open.append(Policy(service.client_builder().create(), interface, signature, records))
        return self._open[-1]

    def close(self) -> None:
        """Let go of the shared memory."""
        for policy in self._open:
            policy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Policy:
    """A policy of the server; see `Server.policy`.

    Attributes:
        interface: what its environment gives and takes.
    """

    def __init__(self, client: Any, interface: Interface, signature: Signature, records: Records) -> None:
        self._client, self.interface = client, interface
        self._given, self._answer = Buffer(records.request), Buffer(records.answer)
        self._found = self._answer.fields[ACTION]
        views = inputs(self._given, signature)
        self._mask: Array | None = views.get(MASK) if signature.own_mask else None
        entries = zip(leaves(interface.space), views.values(), strict=False)
        self._entries = [(path, view) for (path, _), view in entries]

    def act(self, obs: Any, mask: Any = None, timeout_us: float | None = None) -> int | Array:
        """The action for an observation; see `decide`."""
        self._ask(obs, mask, timeout_us, values=False)
        return self._action()

    def decide(self, obs: Any, mask: Any = None, timeout_us: float | None = None) -> Decision:
        """Action and action values.

        Args:
            obs: as the environment gives it.
            mask: of the legal actions, where the policy needs one.
            timeout_us: in which the answer is worth something; None: wait as long as the server lives.

        Raises:
            ObservationError: the policy does not take it.
            RefusedError: the deadline passed.
            ServerGoneError: the server stopped or died.
        """
        self._ask(obs, mask, timeout_us, values=True)
        return Decision(self._action(), self._answer.fields[Q].copy())

    def close(self) -> None:
        """Let go of it."""
        self._client.delete()

    def _action(self) -> int | Array:
        found = self._found
        return found.copy() if found.ndim else int(found)

    def _ask(self, obs: Any, mask: Any, timeout_us: float | None, values: bool) -> None:
        given, answer = self._given, self._answer
        deadline = 0 if timeout_us is None else monotonic_ns() + int(timeout_us * 1e3)
        given.words[DEADLINE], given.words[VALUES] = deadline, values
        for path, view in self._entries:
            _write(view, _entry(obs, path), path)
        self._write_mask(mask)
        request = self._client.loan_uninit()
        ctypes.memmove(request.payload_ptr, given.address, given.size)
        pending = request.assume_init().send()
        response, spins = pending.receive(), 0
        while response is None:
            spins += 1
            if spins % _SPINS == 0:
                _check_waiting(pending, deadline)
            response = pending.receive()
        ctypes.memmove(answer.address, response.payload_ptr, answer.size)
        if status := int(answer.words[STATUS]):
            text = bytes(answer.fields["text"].item()).decode(errors="replace")
            why = WHYS[status - 1]
            raise ObservationError(text) if why is Why.INVALID else RefusedError(why, text)
        if deadline and monotonic_ns() > deadline:
            raise _late()

    def _write_mask(self, mask: Any) -> None:
        if (self._mask is None) != (mask is None):
            needs = "needs the mask of the legal actions" if mask is None else "takes no mask beside the observation"
            raise ObservationError(f"this policy {needs}")
        if self._mask is not None:
            self._mask[...] = as_mask(self.interface, mask)


def _check_waiting(pending: Any, deadline: int) -> None:
    if deadline and monotonic_ns() > deadline:
        raise _late()
    if not pending.is_connected and not pending.has_response:
        raise ServerGoneError("the server has stopped: the request was not answered")


def _late() -> RefusedError:
    return RefusedError(Why.EXPIRED, "there was no answer before the deadline")


def _entry(obs: Any, path: Path) -> Any:
    try:
        for key in path:
            obs = obs[key]
    except (KeyError, IndexError, TypeError):
        raise ObservationError(f"the observation has no entry {key!r}") from None
    return obs


def _write(view: Array, value: Any, path: Path) -> None:
    """Put an entry of the observation into the record; nothing is rounded but floats."""
    if type(value) is np.ndarray and value.dtype == view.dtype and value.shape == view.shape:
        view[...] = value
        return
    array = np.asarray(value)
    if array.shape != view.shape:
        raise ObservationError(f"the observation{list(path) or ''} has the shape {array.shape}, not {view.shape}")
    with np.errstate(all="ignore"):
        view[...] = array
    if not (array.dtype.kind == "f" and view.dtype.kind == "f") and (view != array).any():
        raise ObservationError(f"the observation{list(path) or ''} has values that {view.dtype} cannot hold")


def _service(node: Any, service: str, request: Any, answer: Any) -> Any:
    try:
        return node.service_builder(iox2.ServiceName.new(service)).request_response(request, answer).open()
    except (iox2.RequestResponseOpenError, iox2.SemanticStringError) as error:
        raise ServerGoneError(f"nobody serves the shared memory {service!r} ({error}): nimbleq serve --shm") from None


def _described(name: str, node: Any, until: int) -> Mapping[str, Any]:
    """What the server says of its policies."""
    service = _service(node, f"nimbleq/{name}", iox2.Slice[ctypes.c_uint8], iox2.Slice[ctypes.c_uint8])
    client = service.client_builder().initial_max_slice_len(1).create()
    request = client.loan_slice_uninit(1)
    ctypes.memset(request.payload_ptr, 0, 1)
    pending = request.assume_init().send()
    while (response := pending.receive()) is None:
        if monotonic_ns() > until or not pending.is_connected:
            raise ServerGoneError(f"nobody answers in the shared memory {name!r}")
        sleep(1e-3)
    held = response.payload()
    text = ctypes.string_at(response.payload_ptr, held.len())
    about: dict[str, Any] = json.loads(text)
    return about
