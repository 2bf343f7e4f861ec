"""Settings that all tests share."""

import gc

from hypothesis import settings

# A shared or slow machine is no reason to fail: what a test checks is the answer, not how long it took.
settings.register_profile("patient", deadline=None, max_examples=50)
settings.load_profile("patient")

gc.disable()  # until all tests are collected: what they import lives to the end


def pytest_collection_finish() -> None:
    """A million objects again and again: that took a fifth of the time of collecting tests and 7 % of running them."""
    gc.collect()
    gc.freeze()
    gc.enable()
