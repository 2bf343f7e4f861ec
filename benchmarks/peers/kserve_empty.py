"""KServe's model server around a model that does nothing: ``python -m benchmarks.peers.kserve_empty PORT``."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import numpy as np
import uvloop
from kserve import InferOutput, InferResponse, Model, ModelServer


class Empty(Model):  # type: ignore[misc]
    """Answers ``action`` 0 and two zeros, whatever it is asked."""

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """A constant, in the form of a policy's answer."""
        outputs = [
            InferOutput("action", [1], "INT64", np.zeros(1, np.int64)),
            InferOutput("q", [1, 2], "FP32", np.zeros((1, 2), np.float32)),
        ]
        return InferResponse("", self.name, outputs, model_version="0" * 12)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    model = Empty("policy")
    model.ready = True
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, enable_latency_logging=False).start([model])
