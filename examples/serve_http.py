"""Ask a decision server with nothing but Python's own library.

    nimbleq serve runs/ll/artefacts/small --port 8080
    python examples/serve_http.py http://localhost:8080

Asks the first policy for decisions on observations of zeros, within 50 ms each.
"""

import json
import sys
import urllib.error
import urllib.request


def call(url: str, body: object = None, timeout_us: int = 0) -> dict:
    headers = {"content-type": "application/json"} | ({"x-timeout-us": str(timeout_us)} if timeout_us else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as response:
        return json.load(response)


def main(server: str) -> None:
    [name, *_] = call(f"{server}/v2/models")["models"]
    inputs = call(f"{server}/v2/models/{name}")["inputs"]
    given = []
    for one in inputs:
        shape = [1, *one["shape"][1:]]  # the first axis counts observations
        size = 1
        for side in shape:
            size *= side
        fill = 1 if one["name"] == "mask" else 0  # every action is legal
        given.append({"name": one["name"], "datatype": one["datatype"], "shape": shape, "data": [fill] * size})
    try:
        answer = call(f"{server}/v2/models/{name}/infer", {"inputs": given}, timeout_us=50_000)
    except urllib.error.HTTPError as error:
        sys.exit(f"refused with {error.code}: {json.load(error)['error']}")
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    values = [round(value, 3) for value in outputs["q"]]
    print(f"{name} ({answer['model_version']}): action {outputs['action'][0]}, action values {values}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080")
