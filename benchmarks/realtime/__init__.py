"""What a decision does besides deciding (allocations, locks, system calls), its instructions, stack and worst time."""
