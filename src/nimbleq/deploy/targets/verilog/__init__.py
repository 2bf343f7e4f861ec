"""Verilog for FPGAs: the integer part of a policy as a pipeline of adders, or folded onto a few multipliers."""
