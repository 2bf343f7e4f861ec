"""Rewrites of a graph: functions ``Graph → Graph`` that change the first place they fit, or return their argument."""
