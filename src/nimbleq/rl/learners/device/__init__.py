"""Learning on one device: replay, network and update live there, captured as a CUDA graph where that is possible.

Without a GPU the same functions run on the CPU, eagerly; that is what the tests run.
"""
