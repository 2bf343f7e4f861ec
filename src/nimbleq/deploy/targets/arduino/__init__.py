"""A policy as a library of Arduino, PlatformIO and Zephyr."""
