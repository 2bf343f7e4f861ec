"""Places in the arena: what is alive together never overlaps, and memory is used again."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.deploy.targets.c.arena import place
from nimbleq.deploy.targets.c.isa import ISAS
from nimbleq.deploy.targets.c.plan import plan
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from tests.deploy.nets import mlp
from tests.strategies import graphs

LIFE = st.tuples(st.integers(0, 9), st.integers(0, 4)).map(lambda life: (life[0], life[0] + life[1]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(LIFE, st.integers(1, 99)), min_size=1, max_size=12), st.sampled_from([1, 8, 64]))
def test_what_is_alive_together_never_overlaps(tensors: list[tuple[tuple[int, int], int]], alignment: int) -> None:
    lifetimes = {str(index): life for index, (life, _) in enumerate(tensors)}
    sizes = {str(index): size for index, (_, size) in enumerate(tensors)}
    slots, total = place(lifetimes, sizes, alignment)
    rounded = {name: -(-size // alignment) * alignment for name, size in sizes.items()}
    for one, other in combinations(slots, 2):
        together = lifetimes[one][0] <= lifetimes[other][1] and lifetimes[other][0] <= lifetimes[one][1]
        apart = slots[one].offset + sizes[one] <= slots[other].offset or (
            slots[other].offset + sizes[other] <= slots[one].offset
        )
        assert apart or not together
    assert all(slot.offset % alignment == 0 for slot in slots.values())
    needed = max(sum(rounded[n] for n, (a, b) in lifetimes.items() if a <= step <= b) for step in range(14))
    assert needed <= total <= sum(rounded.values())


@settings(max_examples=25, deadline=None)
@given(st.one_of(graphs("float"), graphs("int")))
def test_a_policy_takes_no_more_than_all_of_its_tensors_and_no_less_than_it_must(graph: Graph) -> None:
    portable = plan(graph, ISAS[-1])
    scratch = sum(8 + 8 * buffer.count for block in portable.blocks for buffer, _ in block.scratch)
    assert portable.arena_bytes <= sum(8 + 4 * kind.size for kind in graph.types.values()) + scratch


def test_a_chain_of_layers_lives_in_two_of_them() -> None:
    graph = mlp(8, 64, 64, 64, 64, 4)
    assert plan(graph, ISAS[-1]).arena_bytes <= 2 * 4 * 64 + 4 * 4 + 8 < sum(4 * k.size for k in graph.types.values())
    assert cost(graph).peak_ram_bytes <= 3 * 4 * 64
