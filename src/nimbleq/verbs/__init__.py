"""The verbs of the command line: a verb parses nothing and computes nothing itself; it connects the rooms.

Every module has ``Args`` (a frozen dataclass that becomes the options) and ``main(args, console) → (result, holds)``:
the JSON object, and whether the claim holds (exit code 0 or 1).
"""
