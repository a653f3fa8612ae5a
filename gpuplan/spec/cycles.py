"""Resources that wait for each other: found by one cheap pass, told with the whole cycle.

Called by `load` when everything else is right.
"""

from collections.abc import Mapping

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path
from gpuplan.core.errors import SpecError
from gpuplan.spec.expressions import Evaluation, Names
from gpuplan.spec.scalars import Template, texts_in
from gpuplan.spec.shapes import Shapes

Graph = dict[Address, set[Address]]


def find_cycle(instances: Mapping[Address, Desired]) -> list[Address] | None:
    """Resource blocks that wait for each other, each for the next and the last for the first; None: there are none."""
    graph = _graph(instances)
    if not graph or not (left := _untangled(graph)):
        return None
    import networkx

    directed: networkx.DiGraph[Address] = networkx.DiGraph(
        [(address, need) for address in sorted(left, key=_order) for need in sorted(left[address], key=_order)]
    )
    cycle = [edge[0] for edge in networkx.find_cycle(directed)]
    # A resource stands for its blocks, and is no stop of its own where its only block is on the way.
    return [a for i, a in enumerate(cycle) if a.resource != cycle[i - 1].resource] or cycle[:1]


def tell_cycle(cycle: list[Address], shapes: Shapes, names: Names) -> Diagnostic:
    """The diagnostic, with the place where each waits for the next."""
    labels = []
    for address, need in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        text = f"{address} waits for {need}" if address != need else f"{address} waits for itself"
        labels.append(Label(At(_where(address, need, shapes, names)), text))
    hint = "remove one of the two" if len(cycle) == 2 else "remove this" if len(cycle) == 1 else "remove one of these"
    return Diagnostic("dependency-cycle", "resources wait for each other", tuple(labels), hint=hint)


def _order(address: Address) -> tuple[str, str, bool, int, str, int]:
    return address.order


def _graph(instances: Mapping[Address, Desired]) -> Graph:
    graph: Graph = {}
    for address, desired in instances.items():
        if desired.depends_on and address.block not in graph:
            graph[address.block] = {need.block for need in desired.depends_on}
    for address in list(graph):
        # A block that is one of several also belongs to the resource as a whole.
        if address.key is not None:
            graph.setdefault(address.resource, set()).add(address)
    return graph


def _untangled(graph: Graph) -> Graph:
    """What is left once everything that waits for nothing has been taken away, again and again."""
    left = {address: {need for need in needs if need in graph} for address, needs in graph.items()}
    users: dict[Address, list[Address]] = {}
    for address, needs in left.items():
        for need in needs:
            users.setdefault(need, []).append(address)
    free = [address for address, needs in left.items() if not needs]
    while free:
        done = free.pop()
        del left[done]
        for user in users.get(done, ()):
            left[user].discard(done)
            if not left[user]:
                free.append(user)
    return left


def _where(address: Address, need: Address, shapes: Shapes, names: Names) -> Path:
    shape = shapes.target(address.kind, address.name)
    block = shape.blocks.get(address.key) or next(iter(shape.blocks.values()))
    path: Path = (address.kind, address.name)
    for place, raw in texts_in(dict(shape.raw), path):
        if isinstance(raw, Template):
            evaluation = Evaluation(names, block.bound)
            try:
                evaluation.value(raw, place)
            except SpecError:
                continue
            refs = evaluation.refs
        else:
            try:
                refs = {Address.parse(raw)} if place[2] in ("depends_on", "on", "lifecycle") else set()
            except ValueError:
                continue
        if any(ref.resource == need.resource for ref in refs):
            return place
    return path
