"""Order a dependency graph over small whole numbers, in the same way every time.

Called by `planner` (instances) and `order` (operations). Nodes are positions in a canonical list; `needs[n]` are the
nodes that come before n.
"""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

Needs = Sequence[Sequence[int]]


def arrange(needs: Needs) -> list[int]:
    """A valid order, the smallest number first among those that are ready. Shorter than `needs` if there is a cycle."""
    waiting = [len(before) for before in needs]
    dependents = reverse(needs)
    ready = [node for node, count in enumerate(waiting) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        node = heappop(ready)
        order.append(node)
        for dependent in dependents[node]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                heappush(ready, dependent)
    return order


def reverse(needs: Needs) -> list[list[int]]:
    """The same edges seen from the other end."""
    dependents: list[list[int]] = [[] for _ in needs]
    for node, before in enumerate(needs):
        for other in before:
            dependents[other].append(node)
    return dependents


def closure(starts: Iterable[int], edges: Needs) -> set[int]:
    """The starts and everything that can be reached from them."""
    found = set(starts)
    pending = list(found)
    while pending:
        for other in edges[pending.pop()]:
            if other not in found:
                found.add(other)
                pending.append(other)
    return found


def cycles(needs: Needs) -> list[list[int]]:
    """One cycle of every knot in the graph, each node followed by one it needs, beginning with its smallest."""
    import networkx

    graph: networkx.DiGraph[int] = networkx.DiGraph()
    graph.add_edges_from((node, other) for node, before in enumerate(needs) for other in before)
    found = []
    for knot in networkx.strongly_connected_components(graph):
        start = min(knot)
        if len(knot) > 1 or graph.has_edge(start, start):
            found.append([edge[0] for edge in networkx.find_cycle(graph.subgraph(knot), start)])
    return sorted(found)


def knots(needs: Needs) -> list[set[int]]:
    """The groups of nodes that wait for each other."""
    import networkx

    graph: networkx.DiGraph[int] = networkx.DiGraph()
    graph.add_edges_from((node, other) for node, before in enumerate(needs) for other in before)
    return [set(knot) for knot in networkx.strongly_connected_components(graph) if len(knot) > 1]
