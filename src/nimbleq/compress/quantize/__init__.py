"""Ranges of activations, the plan of number formats, and the integer graph that follows from them."""
