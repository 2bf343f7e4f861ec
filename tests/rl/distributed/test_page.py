"""docs/distributed.md: its files for clusters are valid, as far as that can be seen here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "distributed.md"


def files() -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def test_the_launcher_takes_the_file() -> None:
    """By the schema that Ray checks such files against."""
    ray = pytest.importorskip("ray")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(files()[0], schema)
    assert files()[0]["provider"]["type"] == "local"


def test_the_job_has_the_fields_of_a_ray_job() -> None:
    job = files()[1]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    for pod in (cluster["headGroupSpec"], group):
        [container] = pod["template"]["spec"]["containers"]
        assert container["image"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
    actors = int(re.findall(r"--actors (\d+)", job["spec"]["entrypoint"])[0])
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert actors <= group["replicas"] * cpus, "each actor takes a CPU"
    assert cluster["rayVersion"] in (PAGE.parents[1] / "pyproject.toml").read_text()
