"""The prebuilt engine: a graph becomes a flat program that `nimbleq.native._runtime` runs; no compiler is needed."""
