"""uvicorn's HTTP protocol, which refuses a decision as soon as it has read the headers.

Refusals fill an overloaded server. Here one costs little beside an answer: no task, no ASGI messages, no body.
"""

from __future__ import annotations

import contextlib
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nimbleq.serve.admission import CLOSE, Admission
from nimbleq.serve.refusal import RefusedError


class RefusingProtocol(HttpToolsProtocol):  # type: ignore[misc]
    """One connection.

    Args:
        admission: the application, whose gate is asked.
        named: uvicorn's.
    """

    def __init__(self, *, admission: Admission, **named: Any) -> None:
        super().__init__(**named)
        self._admission, self._ends = admission, False

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Called with the headers of a request, or when the one before it on the connection is answered."""
        if self.transport.is_closing():  # by a refusal; what came with it is not begun
            return
        try:
            self._admission.check(cycle.scope)
        except RefusedError as error:
            newest = cycle.more_body  # else others may be read already: they take turns in the application
            if newest and not self.flow.write_paused:
                self._refuse(cycle, error)
                return
        super()._start_asgi_task(cycle, app)

    def _refuse(self, cycle: Any, error: RefusedError) -> None:
        """Respond now; uvicorn skips the body of a request that has its response.

        A connection that ends is closed behind the body: else the kernel resets it, and the response may be lost.
        """
        start, body = self._admission.refused(cycle.scope, error)
        headers = [*cycle.default_headers, *start["headers"]]
        if not cycle.keep_alive and CLOSE not in headers:
            headers.append(CLOSE)
        lines = [STATUS_LINE[start["status"]], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body["body"]]
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join(lines))
        self._ends = CLOSE in headers
        cycle.on_response()

    def on_message_complete(self) -> None:
        """A place in the queue for a request that is whole, before the next connection is read."""
        super().on_message_complete()
        if self._ends:
            self.transport.close()
        ticket = self.scope.get("ticket")
        if ticket is not None:
            with contextlib.suppress(RefusedError):  # the application refuses it
                self._admission.gate.enter(ticket)

    def shutdown(self) -> None:
        """Close it, unless the body of a refused request is still to come: that closes it."""
        if not self._ends:
            super().shutdown()
