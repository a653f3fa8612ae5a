"""Dependency graphs as DOT and Mermaid. Called by `graph` and `show`.

Edges lead from what needs to what is needed. Those that follow from others are left out, up to a size at which nobody
reads the picture anyway.
"""

from dataclasses import dataclass

from gpuplan.cli.render.text import clean
from gpuplan.core.desired import Configuration
from gpuplan.core.plan import Action, Plan

_MOST_REDUCED = 2_000
"""Nodes; the transitive reduction takes time in their square."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """`labels` by node; a node with an empty label only joins others."""

    labels: dict[str, str]
    edges: list[tuple[str, str]]


def of_resources(configuration: Configuration) -> Drawing:
    """The declared resources and their references."""
    edges: set[tuple[str, str]] = set()
    labels: dict[str, str] = {}
    for address, desired in configuration.instances.items():
        source = str(address.resource)
        labels.setdefault(source, source)
        edges.update((source, str(need.resource)) for need in desired.depends_on if need.resource != address.resource)
    return _reduced(Drawing(labels, sorted(edge for edge in edges if edge[1] in labels)))


def of_operations(plan: Plan) -> Drawing:
    """What a run does, and what each step waits for."""
    labels = {o.id: "" if o.action is Action.NO_OP else o.id for o in plan.operations}
    return _reduced(Drawing(labels, [(o.id, need) for o in plan.operations for need in o.needs]))


def dot(drawing: Drawing) -> str:
    """For Graphviz."""
    lines = ["digraph gpuplan {", "  rankdir = LR", '  node [shape = box, fontname = "sans-serif"]']
    for node, label in drawing.labels.items():
        shape = f"label = {_quoted(label)}" if label else 'shape = point, label = ""'
        lines.append(f"  {_quoted(node)} [{shape}]")
    lines += [f"  {_quoted(source)} -> {_quoted(target)}" for source, target in drawing.edges]
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(drawing: Drawing) -> str:
    """For Markdown pages."""
    number = {node: f"n{index}" for index, node in enumerate(drawing.labels)}
    lines = ["flowchart LR"]
    for node, label in drawing.labels.items():
        lines.append(f'  {number[node]}["{_entities(label)}"]' if label else f"  {number[node]}(( ))")
    lines += [f"  {number[source]} --> {number[target]}" for source, target in drawing.edges]
    return "\n".join(lines) + "\n"


def _reduced(drawing: Drawing) -> Drawing:
    if len(drawing.labels) > _MOST_REDUCED or len(drawing.edges) < 3:
        return drawing
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(drawing.labels)
    graph.add_edges_from(drawing.edges)
    if not networkx.is_directed_acyclic_graph(graph):
        return drawing
    kept = set(networkx.transitive_reduction(graph).edges)
    return Drawing(drawing.labels, [edge for edge in drawing.edges if edge in kept])


def _quoted(text: str) -> str:
    escaped = clean(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _entities(text: str) -> str:
    return clean(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
