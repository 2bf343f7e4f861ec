"""Deadlines that travel with a request.

A client gives the time that it has left, or the moment at which its answer is worthless. Both are microseconds, as a
parameter of the request or as a header (metadata, in gRPC):

    parameter   header            meaning
    timeout     x-timeout-us      counted from when the server got the request (tritonclient's ``timeout``)
    deadline    x-deadline-us     since 1970, for callers whose clock is the server's
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from nimbleq.serve.refusal import RefusedError, Why

HEADERS = {"x-timeout-us": "timeout", "x-deadline-us": "deadline"}
"""Header → the parameter that means the same."""
NEVER = math.inf


def deadline_of(given: Mapping[str, Any], arrived: float) -> float:
    """When a request expires, on the clock of `time.monotonic`; `NEVER` without a deadline.

    Args:
        given: parameters, or headers under the names of their parameters; values may be text.
        arrived: when the server got it, on the same clock.

    Raises:
        RefusedError: a value is not a positive number.
    """
    moments = [NEVER]
    if "timeout" in given:
        moments.append(arrived + _seconds(given, "timeout"))
    if "deadline" in given:
        moments.append(time.monotonic() + _seconds(given, "deadline") - time.time())
    return min(moments)


def of_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that give a deadline, under the names of their parameters."""
    return {name: headers[header] for header, name in HEADERS.items() if header in headers}


def _seconds(given: Mapping[str, Any], name: str) -> float:
    value = given[name]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise RefusedError(Why.INVALID, f"{name} is {value!r}: it must be a positive number of microseconds")
    return number / 1e6
