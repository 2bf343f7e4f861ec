"""Torsos: what turns an observation into features."""
