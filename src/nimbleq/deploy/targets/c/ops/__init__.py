"""Plain C99 for every op: `PORTABLE`, op → the function that makes its lines. One file per op.

An instruction set replaces rows of it; see `nimbleq.deploy.targets.c.isa`.
"""

from collections.abc import Callable, Mapping

from nimbleq.deploy.targets.c.ops.activation import activation
from nimbleq.deploy.targets.c.ops.add import add
from nimbleq.deploy.targets.c.ops.affine import affine
from nimbleq.deploy.targets.c.ops.argmax import argmax, branch_argmax
from nimbleq.deploy.targets.c.ops.channel_shuffle import channel_shuffle
from nimbleq.deploy.targets.c.ops.concat import concat
from nimbleq.deploy.targets.c.ops.conv2d import conv2d
from nimbleq.deploy.targets.c.ops.dequantize import dequantize
from nimbleq.deploy.targets.c.ops.dueling import dueling
from nimbleq.deploy.targets.c.ops.expectation import expectation
from nimbleq.deploy.targets.c.ops.flatten import flatten
from nimbleq.deploy.targets.c.ops.gru import gru
from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.ops.layer_norm import layer_norm
from nimbleq.deploy.targets.c.ops.linear import linear
from nimbleq.deploy.targets.c.ops.pool import pool
from nimbleq.deploy.targets.c.ops.quantize import quantize
from nimbleq.deploy.targets.c.ops.requantize import requantize
from nimbleq.deploy.targets.c.ops.slice import slice_of
from nimbleq.deploy.targets.c.ops.tanh import tanh
from nimbleq.deploy.targets.c.ops.tree import axis_tree, oblique_tree
from nimbleq.deploy.targets.c.ops.unflatten import unflatten
from nimbleq.graph import ops

Make = Callable[[Layer], list[str]]
"""Lines of one step, its epilogue included; what they need is asked of the layer."""

PORTABLE: Mapping[type[ops.Op], Make] = {
    ops.Affine: affine,
    ops.Linear: linear,
    ops.Conv2d: conv2d,
    ops.Activation: activation,
    ops.Tanh: tanh,
    ops.LayerNorm: layer_norm,
    ops.Pool: pool,
    ops.Flatten: flatten,
    ops.ChannelShuffle: channel_shuffle,
    ops.Add: add,
    ops.Concat: concat,
    ops.Slice: slice_of,
    ops.Unflatten: unflatten,
    ops.Dueling: dueling,
    ops.GRU: gru,
    ops.Expectation: expectation,
    ops.Quantize: quantize,
    ops.Dequantize: dequantize,
    ops.Requantize: requantize,
    ops.ObliqueTree: oblique_tree,
    ops.AxisTree: axis_tree,
    ops.ArgMax: argmax,
    ops.BranchArgMax: branch_argmax,
}

__all__ = ["PORTABLE", "Make"]
