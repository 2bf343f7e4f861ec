"""Q(s, a) over features of state and action, for games with too many actions to number: deep Monte-Carlo [2106.06135].

A network of one output values each legal action, read together with the state as one row of features; the best row is
played. `game` says what a game has to be, `seats` who plays it, `learn` is the loop. The graph is an ordinary one with
one action, so passes, formats, targets and the runtime take it as they take any other.
"""
