"""Rewrites of a graph: functions ``Graph → Graph`` that change the first match, or return their argument."""
