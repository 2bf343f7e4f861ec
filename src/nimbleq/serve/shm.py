"""The process that serves shared memory: it polls, decides and answers, and never waits for the network's server."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable, MutableSequence
from functools import partial
from multiprocessing.connection import Connection
from time import monotonic_ns, sleep
from typing import Any

import iceoryx2 as iox2

from nimbleq.deploy.guarded import Guarded
from nimbleq.errors import ConfigError, ObservationError
from nimbleq.graph.interface_codec import to_dict
from nimbleq.serve.policy import Served
from nimbleq.serve.record import DEADLINE, STATUS, VALUES, WHYS, Buffer, Records, inputs, words
from nimbleq.serve.refusal import Why
from nimbleq.serve.signature import ACTION, FAULTS, Q
from nimbleq.stopping import ignore_stop_signals

SPIN_NS = 50_000_000
"""After the last request it polls without a pause for this long, then it sleeps between polls."""
NAP_SECONDS = 2e-4
OUTCOMES = ("answered", *(why.label for why in WHYS))
"""What is counted, of each policy."""
MOST_CLIENTS, MOST_REQUESTS = 32, 8
"""Of one policy; requests of one client that are not answered yet."""


def run(name: str, served: dict[str, Served], counts: MutableSequence[int], parent: Connection) -> None:
    """The process: serve until the parent says stop, or is gone.

    Args:
        name: of the shared memory.
        served: the policies by name.
        counts: ``len(served) × len(OUTCOMES)`` numbers, which only this process writes.
        parent: says ``("swap", policy)`` and ``("stop",)``; gets ``("ready",)`` or ``("error", text)``.
    """
    ignore_stop_signals()
    iox2.set_log_level(iox2.LogLevel.Error)
    try:
        ports, describe = _open(name, served, counts)
    except ConfigError as error:
        parent.send(("error", str(error)))
        return
    stop = threading.Event()
    threading.Thread(target=_listen, args=(parent, ports, stop), daemon=True).start()
    parent.send(("ready",))
    polls = [port.poll for port in ports.values()]
    last = monotonic_ns()
    while True:
        worked = False
        for poll in polls:
            worked |= poll()
        if worked:
            last = monotonic_ns()
        elif stop.is_set():
            return
        elif monotonic_ns() - last > SPIN_NS:
            describe()
            sleep(NAP_SECONDS)


def _listen(parent: Connection, ports: dict[str, Port], stop: threading.Event) -> None:
    """What the parent says."""
    try:
        while (said := parent.recv())[0] != "stop":
            ports[said[1].name].swap(said[1])
    except (EOFError, OSError):
        pass  # it is gone
    stop.set()


class Port:
    """The requests of one policy."""

    def __init__(self, factory: Any, served: Served, counts: Callable[[int], None]) -> None:
        records = Records.of(served.signature)
        self._server = factory.server_builder().create()
        self._given, self._answer = Buffer(records.request), Buffer(records.answer)
        self._count = counts
        self._next: Served | None = None
        self._bind(served)

    def swap(self, served: Served) -> None:
        """Decide with ``served`` from the next request on. Any thread may call it."""
        self._next = served

    def _bind(self, served: Served) -> None:
        self.served = served
        self._act, self._action = served.runtime.act, self._answer.fields[ACTION]
        self._stream = None if served.streams is None else served.runtime.stream()
        [(self._obs, mask)] = served.signature.rows(inputs(self._given, served.signature))
        self._masks = () if mask is None else (mask,)

    def poll(self) -> bool:
        """Answer one request, if there is one."""
        active = self._server.receive()
        if active is None:
            return False
        if self._next is not None:
            served, self._next = self._next, None
            self._bind(served)
        given, answer = self._given, self._answer
        ctypes.memmove(given.address, active.payload_ptr, given.size)
        deadline = int(given.words[DEADLINE])
        if deadline and monotonic_ns() >= deadline:
            self._refuse(Why.EXPIRED, "the deadline has passed: the decision was not computed")
        else:
            try:
                if self._stream is None:
                    self._action[...] = self._act(self._obs, *self._masks)
                else:
                    self._behind_its_guard(self._stream)
                if given.words[VALUES]:
                    answer.fields[Q][...] = self.served.values(self._obs)
                answer.words[STATUS] = 0
                self._count(0)
            except ObservationError as error:
                self._refuse(Why.INVALID, str(error))
        try:
            response = active.loan_uninit()
            ctypes.memmove(response.payload_ptr, answer.address, answer.size)
            response.assume_init().send()
        except (iox2.LoanError, iox2.SendError):
            pass  # the client has gone
        return True

    def _behind_its_guard(self, stream: Guarded) -> None:
        """Every request stands alone: clients share the memory, not a control loop."""
        stream.reset()
        self._action[...] = stream.act(self._obs, *self._masks)
        self._answer.fields[FAULTS][...] = stream.bits

    def _refuse(self, why: Why, text: str) -> None:
        fields, status = self._answer.fields, 1 + WHYS.index(why)
        fields["status"][...] = status
        fields["text"][...] = text.encode()
        self._count(status)


def _open(
    name: str, served: dict[str, Served], counts: MutableSequence[int]
) -> tuple[dict[str, Port], Callable[[], None]]:
    """The ports by policy, and what answers the question which there are."""
    node = iox2.NodeBuilder.new().signal_handling_mode(iox2.SignalHandlingMode.Disabled).create(iox2.ServiceType.Ipc)
    node.try_cleanup_dead_nodes()  # what killed servers left

    def counter(first: int) -> Callable[[int], None]:
        def count(outcome: int) -> None:
            counts[first + outcome] += 1

        return count

    ports = {}
    for index, (policy, one) in enumerate(served.items()):
        records = Records.of(one.signature)
        factory = _factory(node, f"nimbleq/{name}/{policy}", words(records.request), words(records.answer))
        ports[policy] = _port(factory, name, partial(Port, served=one, counts=counter(index * len(OUTCOMES))))
    about = _factory(node, f"nimbleq/{name}", iox2.Slice[ctypes.c_uint8], iox2.Slice[ctypes.c_uint8])
    server = _port(about, name, lambda factory: factory.server_builder().initial_max_slice_len(4096).create())

    def describe() -> None:
        while (active := server.receive()) is not None:
            _describe(active, ports)

    return ports, describe


def _describe(active: Any, ports: dict[str, Port]) -> None:
    text = json.dumps({
        name: {
            "digest": port.served.digest, "masked": port.served.signature.own_mask,
            "guarded": port.served.streams is not None,
            "interface": to_dict(port.served.runtime.interface),
        }
        for name, port in ports.items()
    }).encode()  # fmt: skip
    response = active.loan_slice_uninit(len(text))
    ctypes.memmove(response.payload_ptr, text, len(text))
    response.assume_init().send()


def _factory(node: Any, service: str, request: Any, answer: Any) -> Any:
    try:
        return (
            node.service_builder(iox2.ServiceName.new(service))
            .request_response(request, answer)
            .max_clients(MOST_CLIENTS)
            .max_servers(1)
            .max_nodes(MOST_CLIENTS + 1)
            .max_active_requests_per_client(MOST_REQUESTS)
            .open_or_create()
        )
    except (iox2.RequestResponseOpenOrCreateError, iox2.SemanticStringError) as error:
        text = (
            f"cannot serve shared memory {service!r} ({error}): is an older server, or one of its clients, still there?"
        )
        raise ConfigError(text) from None


def _port(factory: Any, name: str, make: Callable[[Any], Any]) -> Any:
    try:
        return make(factory)
    except iox2.ServerCreateError as error:
        raise ConfigError(f"another process serves shared memory {name!r} already ({error})") from None
