"""Emitting policies as code, running them, and proving that every engine agrees with the interpreter. No torch."""
