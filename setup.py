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

EXTENSIONS: list[Extension] = [
    Extension(
        "nimbleq.native._runtime",
        [f"{NATIVE}/runtime/runtime.c"],
        include_dirs=[numpy.get_include()],
        extra_compile_args=FLAGS,
        optional=True,
    ),
    Extension(
        "nimbleq.native._learner",
        [f"{NATIVE}/learner/{name}.c" for name in ("module", "layout", "step")],
        depends=[str(header) for header in Path(NATIVE, "learner").glob("*.h")],
        include_dirs=[numpy.get_include()],
        extra_compile_args=FLAGS,
        optional=True,
    ),
    Extension(
        "nimbleq.native._replay",
        [f"{NATIVE}/replay/{name}.c" for name in ("module", "tree", "frames", "rows")],
        depends=[str(header) for header in Path(NATIVE, "replay").glob("*.h")],
        include_dirs=[numpy.get_include()],
        extra_compile_args=FLAGS,
        optional=True,
    ),
    Extension(
        "nimbleq.native._envs",
        [f"{NATIVE}/envs/cartpole.c"],
        include_dirs=[numpy.get_include()],
        extra_compile_args=[*FLAGS, "-ffp-contract=off"],  # the same rounding as Gymnasium's
        optional=True,
    ),
]

setup(ext_modules=EXTENSIONS)
