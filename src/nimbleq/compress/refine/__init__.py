"""The last bytes: a linear policy's integers are searched directly, on regret first and then on returns.

`codes` is what is searched, `linear` its form as a graph, `cma` draws candidates, `team` plays many at once, `direct`
puts them together.
"""
