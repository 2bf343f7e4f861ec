"""The processors. A new one is a line here; where its programs start otherwise, a file in `board`."""

from __future__ import annotations

from dataclasses import replace

from nimbleq.deploy.targets.c.ops.dots import DSP, NEON
from nimbleq.deploy.targets.cross.compiler import gcc, zig
from nimbleq.deploy.targets.cross.emulator import qemu_arm, qemu_user, simavr
from nimbleq.deploy.targets.cross.processor import Board, Consumption, Processor
from nimbleq.deploy.targets.cross.row import row

LINUX = Board(("linux.c",), link=("-static",))
OBJECT = Board(())
"""Compiled only."""
_BARE = ("-nostartfiles", "-static")
MPS2 = Board(("cortex_m.c",), ("mps2.ld", "cortex_m.ld"), _BARE)
MPS3 = Board(("cortex_m.c",), ("mps3.ld", "cortex_m.ld"), _BARE)
AVR = Board(("avr.c",), baked=32_000)
_ARM = "gcc-arm-none-eabi libnewlib-arm-none-eabi"
UNPACKED = 32
"""About what a Cortex-M4's code for unpacking takes, for each weight."""

PROCESSORS = (
    Processor(
        name="aarch64",
        purpose="64-bit ARM",
        compilers=(
            replace(
                gcc("aarch64-linux-gnu", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
                more=(("-march=armv8.2-a+dotprod",),),
            ),
            replace(zig("aarch64-linux-musl"), more=(("-mcpu=generic+dotprod",),)),
        ),
        flags=("-O2",),
        board=LINUX,
        emulator=qemu_user("aarch64"),
        dots=(NEON,),
    ),
    Processor(
        name="riscv64",
        purpose="64-bit RISC-V",
        compilers=(
            gcc("riscv64-linux-gnu", "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"),
            zig("riscv64-linux-musl"),
        ),
        flags=("-O2",),
        board=LINUX,
        emulator=qemu_user("riscv64"),
    ),
    Processor(
        name="x86-32",
        purpose="32-bit x86 with the x87 unit",
        compilers=(
            gcc("i686-linux-gnu", "gcc-i686-linux-gnu libc6-dev-i386-cross", "-fno-pie"),
            zig("x86-linux-musl"),
        ),
        flags=("-O2",),
        board=LINUX,
        emulator=qemu_user("i386"),
    ),
    Processor(
        name="cortex-m4",
        purpose="firmware for a Cortex-M4F",
        compilers=(
            gcc("arm-none-eabi", _ARM, "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
            zig("thumb-freestanding-eabihf", "-mcpu=cortex_m4"),
        ),
        flags=("-Os",),
        board=MPS2,
        emulator=qemu_arm("mps2-an386"),
        unpacked=UNPACKED,
        dots=(DSP,),
        consumption=Consumption("STM32L476", 100, 3.3),
    ),
    Processor(
        name="cortex-m7",
        purpose="firmware for a Cortex-M7",
        compilers=(
            gcc("arm-none-eabi", _ARM, "-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"),
            zig("thumb-freestanding-eabihf", "-mcpu=cortex_m7"),
        ),
        flags=("-Os",),
        board=MPS2,
        emulator=qemu_arm("mps2-an500"),
        unpacked=UNPACKED,
        dots=(DSP,),
        consumption=Consumption("STM32H743", 275, 3.3),
    ),
    Processor(
        name="cortex-m55",
        purpose="firmware for a Cortex-M55",
        compilers=(
            gcc("arm-none-eabi", _ARM, "-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
            zig("thumb-freestanding-eabihf", "-mcpu=cortex_m55"),
        ),
        flags=("-Os",),
        board=MPS3,
        emulator=qemu_arm("mps3-an547"),
        unpacked=UNPACKED,
        dots=(DSP,),
    ),
    Processor(
        name="avr",
        purpose="firmware for an 8-bit AVR, the ATmega1284P",
        compilers=(gcc("avr", "gcc-avr avr-libc", "-mmcu=atmega1284p"),),
        flags=("-Os", "-std=gnu99"),  # __flash is GNU C
        board=AVR,
        emulator=simavr("atmega1284p", 16_000_000),
        ram_bytes=16_384,
        near_bytes=30_000,  # of 64 KiB, beside what a verification compiles in
        unpacked=UNPACKED,
        unit="cycles",
        most=1_000,
        wide=False,
        consumption=Consumption("ATmega1284P", 400, 1.8),
    ),
    Processor(
        name="windows",
        purpose="an object file for 64-bit Windows",
        compilers=(zig("x86_64-windows-gnu"),),
        flags=("-O2",),
        board=OBJECT,
        emulator=None,
    ),
    Processor(
        name="macos",
        purpose="an object file for a Mac with an M processor",
        compilers=(zig("aarch64-macos"),),
        flags=("-O2",),
        board=OBJECT,
        emulator=None,
    ),
)

TARGETS = tuple(row(processor) for processor in PROCESSORS)
"""The rows."""
