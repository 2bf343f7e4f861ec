"""One HTML file in which a policy plays its environment."""

from __future__ import annotations

import base64

from nimbleq.deploy.target import Files, Source
from nimbleq.deploy.targets.wasm.parts import FOLDER
from nimbleq.errors import ConfigError

SHAPES = {"cartpole": ((4,), 2), "mountaincar": ((2,), 3), "acrobot": ((6,), 3)}
"""Environment, as ``files/NAME.js`` steps and draws it → shape of its observation, and actions."""
TITLES = {"cartpole": "CartPole", "mountaincar": "MountainCar", "acrobot": "Acrobot"}


def page(environment: str, source: Source, name: str, files: Files) -> bytes:
    """The page, with module and loader inside.

    Raises:
        ConfigError: the policy is of another environment.
    """
    graph, wanted = source.graph, SHAPES[environment]
    if (graph.obs_type.shape, graph.actions) != wanted or graph.obs_type.qtype.is_integer or graph.masked:
        raise ConfigError(
            f"a page of {environment} needs a policy of {wanted[0][0]} numbers and {wanted[1]} actions, this one takes "
            f"{graph.obs_type} and has {graph.actions}: give --wasm.page none"
        )
    module = files[f"{name}.wasm"]
    words = {
        "NAME": name,
        "TITLE": TITLES[environment],
        "BYTES": f"{len(module):,}",
        "DIGEST": source.digest[:12] or "of a graph in memory",
        "LOADER": files[f"{name}.mjs"].decode().replace("export async", "async"),
        "ENVIRONMENT": (FOLDER / f"{environment}.js").read_text(),
        "WASM": base64.b64encode(module).decode(),
    }
    text = (FOLDER / "play.html").read_text()
    for word, value in words.items():
        text = text.replace(word, value)
    return text.encode()
