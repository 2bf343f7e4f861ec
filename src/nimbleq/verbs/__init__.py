"""The verbs of the command line: each parses nothing and computes nothing itself, it joins the rooms.

Every module has ``Args`` (a frozen dataclass that becomes the options) and ``main(args, console) → (result, holds)``:
the JSON object, and whether what was asked holds.
"""
