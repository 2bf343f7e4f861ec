"""Actors in many processes, which Ray runs: on one machine or on several."""
