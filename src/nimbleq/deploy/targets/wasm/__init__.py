"""A policy as one WebAssembly module without imports, and a page in which it plays."""
