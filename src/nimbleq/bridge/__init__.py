"""Conversion between torch, checkpoints of other libraries, and the layer graph."""
