"""Ask a decision server with Triton's client, over HTTP and over gRPC (pip install 'tritonclient[all]').

    nimbleq serve runs/ll/artefacts/small --port 8080 --grpc-port 8081
    python examples/serve_triton.py 8080 8081

A deadline travels with each request: ``timeout`` is in microseconds, and the server refuses what would be later.
"""

import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http


def main(port: str, grpc_port: str) -> None:
    http = tritonclient.http.InferenceServerClient(f"localhost:{port}")
    grpc = tritonclient.grpc.InferenceServerClient(f"localhost:{grpc_port}")
    name = http._get("v2/models", {}, {}).read().decode().split('"')[3]  # the client itself has no list of models
    [about, *more] = http.get_model_metadata(name)["inputs"]
    assert not more, "this example asks policies that take one array"
    obs = np.zeros([1, *about["shape"][1:]], np.float32)
    for client, kind in ((http, tritonclient.http), (grpc, tritonclient.grpc)):
        given = kind.InferInput(about["name"], obs.shape, about["datatype"])
        given.set_data_from_numpy(obs)
        answer = client.infer(name, [given], timeout=50_000)
        how = kind.__name__.split(".")[-1]
        print(
            f"{how}: action {answer.as_numpy('action')[0]}, action values {answer.as_numpy('q')[0].round(3).tolist()}"
        )


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["8080", "8081"]))
