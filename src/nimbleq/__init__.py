"""nimbleq: deep Q-networks trained fast, made small, proven, and answering in microseconds."""
