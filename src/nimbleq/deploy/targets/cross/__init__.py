"""C compiled for another processor, and run here by an emulator: one row per processor in `processors`."""
