"""Searching the settings of training."""
