"""The folder of a processor as a CMake project."""

from __future__ import annotations

from collections.abc import Sequence

from nimbleq.deploy.targets.cross.processor import Processor


def cmake(processor: Processor, name: str, sources: Sequence[str]) -> str:
    """``CMakeLists.txt``: the policy, of its ``sources``, as a library, and its self-test as a program."""
    compiler, board = processor.compilers[0], processor.board
    flags = " ".join((*compiler.flags, *processor.flags))
    link = " ".join(flag for flag in board.flags if flag != "-T")
    script = f"-T${{CMAKE_CURRENT_SOURCE_DIR}}/{board.scripts[0]}" if board.scripts else ""
    if script:
        link = link.replace(board.scripts[0], f"{script} -L${{CMAKE_CURRENT_SOURCE_DIR}}")
    return f"""# cmake -S . -B out -DCMAKE_SYSTEM_NAME=Generic -DCMAKE_C_COMPILER={compiler.command[0]}
# cmake --build out
cmake_minimum_required(VERSION 3.13)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
project({name} C)
set(CMAKE_C_STANDARD 99)
add_compile_options({flags} -ffunction-sections -fdata-sections)
add_link_options({flags} {link})

add_library({name} STATIC {" ".join(sources)})
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})

add_executable(selftest selftest.c {name}_selftest.c {" ".join(board.sources)})
target_link_libraries(selftest PRIVATE {name})
"""
