"""Builds the C extensions; everything else is in pyproject.toml.

They are optional: without a C compiler the package installs and says at run time which slower engine it uses.

In place (``pip install --editable``) they are compiled for this very processor. A wheel runs on every processor of its
kind: the extensions that compute are in it once for each of `LEVELS` and once for all, and `nimbleq.native` takes the
best that the processor can run; the decision engine chooses its kernels by itself. ``NIMBLEQ_CFLAGS`` replaces the
flags of both.
"""

import copy
import os
import platform
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "src/nimbleq/native"
FLAGS = os.environ.get("NIMBLEQ_CFLAGS", "").split()
LEVELS = {"x86_64_v3": ["-march=x86-64-v3"], "x86_64_v4": ["-march=x86-64-v4"]}
"""Folder of `nimbleq.native` → flags of the extensions in it; the names are those of `nimbleq.native._cpu.levels`."""


def extension(name: str, folder: str, *sources: str, flags: tuple[str, ...] = ()) -> Extension:
    """``nimbleq.native.<name>`` out of C files: of one folder, or of another where a source names it."""
    paths = [Path(NATIVE, source if "/" in source else f"{folder}/{source}").with_suffix(".c") for source in sources]
    return Extension(
        f"nimbleq.native.{name}",
        [str(path) for path in paths],
        depends=[str(header) for header in Path(NATIVE).glob("**/*.h")],
        include_dirs=[numpy.get_include()],
        extra_compile_args=["-O3", *flags],
        optional=True,
    )


ENGINE = ("engine/program", "engine/check", "engine/isa", "engine/portable", "engine/avx2", "engine/vnni")
CHOOSING = [
    extension("_cpu", "cpu", "cpu"),
    extension("_runtime", "runtime", "runtime", "batch", "timing", "library", "prebuilt", *ENGINE),
]
"""Run on every processor as they are."""
COMPUTING = [
    extension("_learner", "learner", "module", "layout", "step", "crew", flags=("-pthread",)),
    extension("_distill", "distill", "module", "layout", "step"),
    extension("_replay", "replay", "module", "tree", "frames_type", "rows", "bits"),
    extension("_stream", "stream", "module", flags=("-ffp-contract=off",)),  # the same rounding as what is exported
    extension("_robust", "robust", "module", flags=("-fno-math-errno",)),
    extension(
        "_envs", "envs", "module", "cartpole", "lunarlander", "linear", flags=("-ffp-contract=off",)
    ),  # the same rounding as Gymnasium's
]
"""Compiled for a processor."""


def level(name: str, row: Extension) -> Extension:
    """``row`` for one of `LEVELS`."""
    return Extension(
        row.name.replace("nimbleq.native", f"nimbleq.native.{name}"),
        row.sources,
        depends=row.depends,
        include_dirs=row.include_dirs,
        extra_compile_args=[*row.extra_compile_args, *LEVELS[name]],
        optional=True,
    )


class Build(build_ext):
    """In place for this processor, else for all."""

    def finalize_options(self) -> None:
        """Names the extensions of a wheel; as many at a time as there are processors."""
        self.parallel = self.parallel or os.cpu_count()
        if not FLAGS and not self.inplace and platform.machine() in ("x86_64", "AMD64"):
            self.distribution.ext_modules += [level(name, row) for name in LEVELS for row in COMPUTING]
        super().finalize_options()

    def run(self) -> None:
        """Whether it is in place is certain only now: an editable installation lists its files before it says so."""
        if FLAGS or self.inplace or self.editable_mode:
            self.extensions = self.distribution.ext_modules = [*CHOOSING, *COMPUTING]
            for row in COMPUTING:
                row.extra_compile_args += FLAGS or ["-march=native"]
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """One, with object files of its own."""
        own = copy.copy(self)  # several are built at a time
        own.build_temp = str(Path(self.build_temp, ext.name))
        super(Build, own).build_extension(ext)


setup(ext_modules=[*CHOOSING, *COMPUTING], cmdclass={"build_ext": Build})
