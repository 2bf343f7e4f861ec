"""Ranges of activations, the plan of number formats, and the integer graph that follows from them."""

from nimbleq.compress.quantize.lower import quantize

__all__ = ["quantize"]
