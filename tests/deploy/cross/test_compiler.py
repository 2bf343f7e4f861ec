"""What is said of a compiler that cannot do its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from nimbleq.deploy.targets.cross.compiler import Compiler, build
from nimbleq.deploy.toolchain import CompileError, NoCompilerError


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("bin/ld: cannot find -lc: No such file", NoCompilerError, "board-gcc cannot find -lc: apt install board"),
        ("bin/ld: cannot find crt0.o: No such file", NoCompilerError, "board-gcc cannot find crt0.o: apt install"),
        ("policy.c:3: error: no", CompileError, "board-gcc refused the code: policy.c:3: error: no"),
        ("region FLASH overflowed by 12 bytes", CompileError, "FLASH overflowed"),
    ],
)
def test_what_a_linker_lacks_is_named(tmp_path: Path, said: str, error: type[Exception], words: str) -> None:
    program = tmp_path / "gcc"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\necho 'collect2: error: ld returned 1 exit status' >&2\nexit 1\n")
    program.chmod(0o755)
    compiler = Compiler("board-gcc", (str(program),), (), "apt install board", ("size",))
    with pytest.raises(error, match=words):
        build(compiler, {"policy.c": b""}, "out", (), tmp_path)
