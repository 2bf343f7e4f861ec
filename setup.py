"""Builds the C extensions; everything else is in pyproject.toml.

They are optional: without a C compiler the package installs and says at run time which slower engine it uses.
They are compiled for the processor they are installed on; ``NIMBLEQ_CFLAGS`` replaces the flags (e.g. ``-O3`` for a
wheel that has to run elsewhere).
"""

import os
from pathlib import Path

import numpy
from setuptools import Extension, setup

FLAGS = os.environ.get("NIMBLEQ_CFLAGS", "-O3 -march=native").split()
NATIVE = "src/nimbleq/native"


def extension(name: str, folder: str, *sources: str, flags: tuple[str, ...] = ()) -> Extension:
    """``nimbleq.native.<name>`` out of the C files of one folder."""
    return Extension(
        f"nimbleq.native.{name}",
        [f"{NATIVE}/{folder}/{source}.c" for source in sources],
        depends=[str(header) for part in (folder, "learner") for header in Path(NATIVE, part).glob("*.h")],
        include_dirs=[numpy.get_include()],
        extra_compile_args=[*FLAGS, *flags],
        optional=True,
    )


EXTENSIONS = [
    extension("_runtime", "runtime", "runtime", "batch", "timing"),
    extension("_learner", "learner", "module", "layout", "step"),
    extension("_distill", "distill", "module", "layout", "step"),
    extension("_replay", "replay", "module", "tree", "frames_type", "rows"),
    extension("_robust", "robust", "module", flags=("-fno-math-errno",)),
    extension("_envs", "envs", "cartpole", flags=("-ffp-contract=off",)),  # the same rounding as Gymnasium's
]

LANDER = Path(NATIVE, "lander")
EXTENSIONS.append(
    Extension(
        "nimbleq.native._lander",
        [f"{LANDER}/module.cpp", *sorted(map(str, LANDER.glob("Box2D/**/*.cpp")))],
        depends=sorted(map(str, LANDER.glob("Box2D/**/*.h"))),
        include_dirs=[numpy.get_include(), str(LANDER)],
        # Not -march=native: worlds have to round as in the Box2D that Gymnasium uses.
        extra_compile_args=["-O3", "-std=c++17", "-ffp-contract=off"],
        optional=True,
    )
)

setup(ext_modules=EXTENSIONS)
