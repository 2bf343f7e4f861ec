"""C sources: kernels for emitted code, and the compiled extensions (absent when no compiler was there)."""
