"""Start from another task's policy: QDagger, or the layers of its network; back to scratch where that is better."""
