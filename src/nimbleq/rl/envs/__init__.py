"""Environments, always many at once: what they observe, take and allow."""
