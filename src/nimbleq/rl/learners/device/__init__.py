"""Learning with everything on one device: replay, network and update live there, captured as a CUDA graph where it can.

Without a GPU the same functions run on the CPU, eagerly; that is what the tests run.
"""
