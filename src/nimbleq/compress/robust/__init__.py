"""Which boxes of observations provably leave the action as it is: bounds, exact search, maps of visited states."""
