"""Compiling emitted C into shared libraries, and the private cache that holds them.

The cache holds code that will be executed, so nobody else may be able to write there: its folder is 0700, owned by the
user, not a link, and every library is checked for its owner and mode before it is opened. A library is built under a
temporary name and renamed, so several processes may want the same one at once.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from nimbleq.errors import NimbleqError

COMPILERS = ("cc", "gcc", "clang")
FAST = ("-O3", "-march=native")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
TIMEOUT_SECONDS = 600


class CompileError(NimbleqError):
    """The compiler refused the code, or there is none that works."""


class NoCompilerError(CompileError):
    """No C can be compiled and run here, whatever the code: other engines have to do."""


def find_compiler(names: Sequence[str] = ()) -> str | None:
    """Path of a C compiler: the first of ``names`` on the ``PATH``; without names ``$CC``, `COMPILERS`, then Zig's."""
    candidates = names or (*os.environ.get("CC", "").split()[:1], *COMPILERS)
    found = next((path for name in candidates if (path := shutil.which(name))), None)
    return found if found or names else zig()


def zig() -> str | None:
    """Path of the compiler in the package ``ziglang``, if that is installed."""
    package = importlib.util.find_spec("ziglang")
    folder = None if package is None or package.origin is None else Path(package.origin).parent
    return None if folder is None else shutil.which("zig", path=str(folder))


def words(compiler: str) -> list[str]:
    """How the compiler at this path is called."""
    if Path(compiler).stem == "zig":
        return [compiler, "cc", "-fno-sanitize=undefined"]
    return [compiler]


def compile_library(files: Mapping[str, str], out: Path, compiler: str, flags: Sequence[str] = FAST) -> Path:
    """Compile C texts into one shared library, strictly as C99 and without any warning.

    Args:
        files: name → text of ``.c`` and ``.h`` files.
        out: the library; replaced atomically.

    Raises:
        CompileError: what the compiler complained about first.
        NoCompilerError: it does not even take an empty program; ``out`` cannot be written, or not loaded from there.
    """
    try:
        _compile(files, out, compiler, flags)
    except OSError as error:
        raise NoCompilerError(f"cannot compile into {out.parent}: {error.strerror or error}") from error
    _check_loadable(out)
    return out


def _compile(files: Mapping[str, str], out: Path, compiler: str, flags: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        sources = sorted(name for name in files if name.endswith(".c"))
        built = Path(folder) / "out.so"
        command = [*words(compiler), *STRICT, *flags, "-shared", "-fPIC", "-o", str(built), *sources]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoCompilerError(f"cannot run the compiler {compiler}: {error}") from error
        if done.returncode != 0:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
            if not _works(compiler):
                raise NoCompilerError(f"the compiler {compiler} does not work: {first}")
            raise CompileError(f"{compiler} {' '.join(flags)} refused the code: {first}")
        built.chmod(0o500)
        built.replace(out)


@cache
def _works(compiler: str) -> bool:
    """Whether it compiles the smallest library."""
    with tempfile.TemporaryDirectory(prefix="nimbleq-probe-") as folder:
        (Path(folder) / "probe.c").write_text("int probe(void);\nint probe(void) { return 0; }\n")
        command = [*words(compiler), "-shared", "-fPIC", "-o", "probe.so", "probe.c"]
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False).returncode == 0


def _check_loadable(library: Path) -> None:
    """A folder may be mounted so that code in it cannot be run (noexec); the loader is the only one who knows."""
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise NoCompilerError(
            f"the compiled policy in {library.parent} cannot be loaded, is that folder mounted noexec? ({error}) "
            "XDG_CACHE_HOME and TMPDIR choose other ones"
        ) from error


def cached_library(files: Mapping[str, str], compiler: str, flags: Sequence[str] = FAST) -> Path:
    """The compiled library of ``files``, from the cache when the same text was compiled here before.

    Raises:
        CompileError: it does not compile, or the cache is not safe to use.
    """
    folder = cache_folder()
    key = hashlib.sha256(
        "\0".join([*_identity(compiler), *flags, *(x for f in sorted(files.items()) for x in f)]).encode()
    )
    library = folder / f"{key.hexdigest()}.so"
    if not library.exists():
        compile_library(files, library, compiler, flags)
    _check_private(library)
    _check_loadable(library)
    return library


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/nimbleq/libraries`` (or under ``~/.cache``), made when missing.

    Raises:
        CompileError: it cannot be made, or somebody else could write there.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "nimbleq" / "libraries"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise NoCompilerError(f"cannot make the cache {folder}: {error.strerror}; set XDG_CACHE_HOME") from error
    _check_private(folder)
    return folder


def _check_private(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise NoCompilerError(f"{path} is not private to you: remove it, or set XDG_CACHE_HOME to another place")


@cache
def _identity(compiler: str) -> tuple[str, ...]:
    """What the code depends on besides its text: the compiler's version and this processor."""
    try:
        version = subprocess.run(
            [*words(compiler), "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"cannot run the compiler {compiler}: {error}") from error
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return compiler, version, platform.machine(), platform.processor(), features
