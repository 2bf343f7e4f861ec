"""Settings that all tests share."""

from hypothesis import settings

# A shared or slow machine is no reason to fail: what a test checks is the answer, not how long it took.
settings.register_profile("patient", deadline=None, max_examples=50)
settings.load_profile("patient")
