"""Which instances a resource has: `count`, `for_each`, `nodes`, and what its provider creates.

Found out when somebody first asks, since a count may come from anywhere in the spec. Asked by `expressions`, to know
what a reference means, and by `resources`, to expand.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS, Kind
from gpuplan.core.diagnostics import At, Path, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.nearest import did_you_mean, nearest
from gpuplan.core.values import Deferred, JsonValue, Ref, Value
from gpuplan.spec.attributes import attribute_names, canonical
from gpuplan.spec.expressions import Evaluation, Names, Silenced, fail
from gpuplan.spec.pending import Plain, walk
from gpuplan.spec.provider_blocks import Providers
from gpuplan.spec.scalars import Template
from gpuplan.spec.schema import kind_of

MOST_INSTANCES = 100_000

_TELLING = 5
_FACTS = ("public_ip", "private_ip", "ssh_host", "ssh_port", "ssh_user", "hostname", "endpoint", "url", "status")
"""What providers usually tell; others are not known here, so only near misses of these are mistakes."""


@dataclass(frozen=True, slots=True)
class Block:
    """One instance of a resource, or one cluster of several nodes. `bound` is what `each` and `count` are in it."""

    address: Address
    bound: Mapping[str, Value]
    providers: tuple[str, ...]
    """One for each candidate, in order."""
    nodes: int | None = None
    """None: not a cluster."""
    is_group: bool = False


class Shape:
    """A resource with its blocks; a `Target` of references."""

    def __init__(self, raw: dict[str, JsonValue], address: Address, blocks: Sequence[Block], *, keyed: bool) -> None:
        self.raw = raw
        self.address = address
        self.blocks = {block.address.key: block for block in blocks}
        self.keyed = keyed

    def resolve(self, steps: Sequence[Plain], at: At) -> tuple[Address, Sequence[Plain]]:
        key: str | int | None = None
        if self.keyed:
            if not steps:
                return self.address, ()
            key, *steps = steps
            if key not in self.blocks:
                self._no_such_key(key, at)
        elif steps and isinstance(steps[0], int):
            fail("unknown-reference", f"`{self.address}` is not one of several", at, hint=f"write `{self.address}`")
        block = self.blocks[key]
        address = block.address
        match steps:
            case ["nodes", int(node), *rest] if block.nodes is not None:
                if node >= block.nodes:
                    hint = f"it has {block.nodes}, counted from 0"
                    fail("unknown-reference", f"`{address}` has no node {node}", at, hint=hint)
                if not block.is_group:
                    address, steps = address._replace(node=node), rest
        if steps:
            self._check_attribute(block, address, str(steps[0]), at)
        return address, steps

    def literal(self, address: Address, steps: Sequence[Plain]) -> tuple[Value] | None:
        name, *rest = steps
        if name == "nodes" or name not in attribute_names(self.address.kind) or "placement" in self.raw:
            return None
        raw = self.raw.get(str(name))
        if raw is None or has_template(raw):
            return None
        try:
            return (walk(canonical(str(name), raw), rest, f"{address}.{name}", At((*self.address[:2], str(name)))),)
        except SpecError:
            return None

    def _check_attribute(self, block: Block, address: Address, name: str, at: At) -> None:
        attributes = attribute_names(self.address.kind)
        known = [*attributes, *_FACTS, "id", "name"]
        if block.nodes is None or block.is_group or address.node is not None or address.kind in ("services", "jobs"):
            # Other facts are the provider's own: only a long name can be told from a mistyped one.
            is_known = name in known or name == "nodes" or len(name) < _TELLING
            hint = None if is_known else did_you_mean(name, known)
            if hint is not None:
                fail("unknown-reference", f"`{address}` has no `{name}`", at, hint=hint)
        elif name not in ("name", "nodes") and (name not in attributes or name not in self.raw):
            hint = did_you_mean(name, ("name", "nodes")) or f"its nodes may have it: `{address}.nodes[0].{name}`"
            fail("unknown-reference", f"`{address}` has no `{name}`", at, hint=hint)

    def _no_such_key(self, key: Plain, at: At) -> None:
        have = [key for key in self.blocks if key is not None]
        if not have:
            fail("unknown-reference", f"`{self.address}` has no instances", at)
        example = str(self.address._replace(key=have[0]))
        hint = did_you_mean(str(key), map(str, have)) or f"say which one: `{example}`"
        fail("unknown-reference", f"`{self.address}` has no `{key}`", at, hint=hint)


class Shapes:
    """A `Directory`: the shapes of all resources, each found out once."""

    def __init__(
        self,
        document: Mapping[str, JsonValue],
        names: Names,
        providers: Providers,
        sink: Sink,
        broken: Iterable[tuple[str, str]],
    ) -> None:
        self._document = document
        self._names = names
        self._providers = providers
        self._sink = sink
        self._broken = set(broken)
        self._shapes: dict[Address, Shape] = {}
        self._open: list[Address] = []

    def names(self, section: str) -> Collection[str]:
        return self.raw_section(section)

    def raw_section(self, section: str) -> Mapping[str, JsonValue]:
        found = self._document.get(section)
        return found if isinstance(found, dict) else {}

    def target(self, section: str, name: str) -> Shape:
        """Raises Silenced when the resource itself is wrong, which is reported where it is written."""
        address = Address(section, name)
        shape = self._shapes.get(address)
        if shape is not None:
            return shape
        if (section, name) in self._broken:
            raise Silenced("the resource is wrong")
        if address in self._open:
            self._circle(address)
        self._open.append(address)
        try:
            shape = self._shapes[address] = self._found_out(address)
        except SpecError as exc:
            self._broken.add((section, name))
            if not isinstance(exc, Silenced):
                self._sink.extend(exc.diagnostics)
            raise Silenced("the resource is wrong") from exc
        finally:
            self._open.pop()
        return shape

    def check(self, address: Address, at: At) -> Address:
        """An address as written in `depends_on` and the like, as references would name it. Raises SpecError."""
        if address.kind not in SECTIONS:
            fail("unknown-reference", f"there is no `{address.kind}`", at, hint=did_you_mean(address.kind, SECTIONS))
        section = self.raw_section(address.kind)
        if address.name not in section:
            meant = nearest(address.name, section)
            hint = None if meant is None else f"did you mean `{address.kind}.{meant}`?"
            fail("unknown-reference", f"there is no `{address.resource}`", at, hint=hint)
        steps: list[Plain] = [] if address.key is None else [address.key]
        if address.node is not None:
            steps += ["nodes", address.node]
        return self.target(address.kind, address.name).resolve(steps, at)[0]

    def _circle(self, address: Address) -> None:
        circle = " → ".join(map(str, (*self._open[self._open.index(address) :], address)))
        at = At((address.kind, address.name), key=True)
        fail("not-known-yet", "how many instances there are depends on itself", at, label=circle)

    def _found_out(self, address: Address) -> Shape:
        raw = self.raw_section(address.kind)[address.name]
        assert isinstance(raw, dict)
        path: Path = (address.kind, address.name)
        keyed = raw.get("count") is not None or raw.get("for_each") is not None
        if not keyed:
            return Shape(raw, address, [self._block(raw, address, {}, path)], keyed=False)
        if "count" in raw and "for_each" in raw:
            at = At((*path, "for_each"), key=True)
            fail("conflicting-fields", f"`{address}` has both `count` and `for_each`", at, label="instead of `count`")
        bounds = self._counted(raw, path) if "count" in raw else self._each(raw, path)
        blocks = [self._block(raw, address._replace(key=key), bound, path) for key, bound in bounds.items()]
        return Shape(raw, address, blocks, keyed=True)

    def _counted(self, raw: Mapping[str, JsonValue], path: Path) -> Mapping[str | int, Mapping[str, Value]]:
        count = self._number(Evaluation(self._names, {}), raw["count"], (*path, "count"))
        return {index: {"count": {"index": index}} for index in range(count)}

    def _each(self, raw: Mapping[str, JsonValue], path: Path) -> Mapping[str | int, Mapping[str, Value]]:
        at = At((*path, "for_each"))
        items = Evaluation(self._names, {}).value(raw["for_each"], at.path)
        if isinstance(items, Mapping):
            return {key: {"each": {"key": key, "value": value}} for key, value in items.items()}
        if not isinstance(items, Sequence) or isinstance(items, str):
            late = "not-known-yet" if isinstance(items, (Deferred, Ref)) else "wrong-type"
            fail(late, "`for_each` must be a map or a list of texts", at, label=f"this gives {kind_of(items)}")
        bounds: dict[str | int, Mapping[str, Value]] = {}
        for index, item in enumerate(items):
            here = At((*at.path, index))
            if not isinstance(item, str):
                fail(
                    "wrong-type", "`for_each` must be a map or a list of texts", here, label=f"this is {kind_of(item)}"
                )
            if item in bounds:
                fail("duplicate-key", f"`{item}` is there twice", here, label="the second")
            bounds[item] = {"each": {"key": item, "value": item}}
        return bounds

    def _block(self, raw: Mapping[str, JsonValue], address: Address, bound: Mapping[str, Value], path: Path) -> Block:
        evaluation = Evaluation(self._names, bound)
        if address.kind in ("services", "jobs"):
            return Block(address, bound, (), self._spread(evaluation, raw, address, path))
        if address.kind != "clusters":
            provider = raw.get("provider")
            if provider is None:
                return Block(address, bound, ())
            return Block(address, bound, (self.provider(evaluation, provider, (*path, "provider")),))
        providers = self._cluster_providers(evaluation, raw, address, path)
        nodes = self._number(evaluation, raw.get("nodes", 1), (*path, "nodes"))
        granularities = {
            self._providers.capabilities[name].granularity for name in providers if name in self._providers.capabilities
        }
        if len(granularities) > 1:
            at = At((*path, "placement", "any_of"), key=True)
            fail(
                "mixed-granularity",
                f"the places of `{address}` create different things",
                at,
                label="some create single nodes, some whole clusters",
                hint="keep to one of the two kinds, or make two clusters",
            )
        return Block(address, bound, providers, nodes, granularities == {Kind.GROUP})

    def _spread(self, evaluation: Evaluation, raw: Mapping[str, JsonValue], address: Address, path: Path) -> int | None:
        """On how many nodes a service or a job runs; None where it is one thing: on a named node, or on a group."""
        on = evaluation.value(raw.get("on"), (*path, "on"))
        try:
            target = on.address if isinstance(on, Ref) else Address.parse(str(on))
        except ValueError:
            # Said where `on` is read.
            return None
        if target.kind != "clusters" or target.node is not None or target.name not in self.names("clusters"):
            return None
        block = self.target("clusters", target.name).blocks.get(target.key)
        if block is None or block.nodes is None or block.is_group:
            return None
        nodes = raw.get("nodes")
        if nodes is None:
            return block.nodes if address.kind == "services" else min(1, block.nodes)
        if nodes == "all":
            return block.nodes
        number = self._number(evaluation, nodes, (*path, "nodes"))
        if number > block.nodes:
            at = At((*path, "nodes"))
            fail("out-of-range", f"`{target}` has {block.nodes} nodes", at, label=f"this asks for {number}")
        return number

    def _cluster_providers(
        self, evaluation: Evaluation, raw: Mapping[str, JsonValue], address: Address, path: Path
    ) -> tuple[str, ...]:
        provider, placement = raw.get("provider"), raw.get("placement")
        if provider is not None and placement is not None:
            fail(
                "conflicting-fields",
                f"`{address}` has both `provider` and `placement`",
                At((*path, "placement"), key=True),
                label="instead of `provider`",
                hint="remove one of the two",
            )
        if provider is not None:
            return (self.provider(evaluation, provider, (*path, "provider")),)
        if not isinstance(placement, dict):
            known = ", ".join(self._providers.blocks)
            fail(
                "missing-field",
                f"`{address}` needs `provider` or `placement`",
                At(path, key=True),
                label="neither is here",
                hint=f"add `provider:` with one of: {known}" if known else "add `provider:`",
            )
        places = placement["any_of"]
        assert isinstance(places, list)
        found = []
        for index, place in enumerate(places):
            assert isinstance(place, dict)
            found.append(
                self.provider(evaluation, place["provider"], (*path, "placement", "any_of", index, "provider"))
            )
        return tuple(found)

    def provider(self, evaluation: Evaluation, raw: JsonValue, path: Path) -> str:
        """The name of a declared provider block. Raises SpecError."""
        name = evaluation.value(raw, path)
        if not isinstance(name, str):
            fail("wrong-type", "`provider` must be text", At(path), label=f"this gives {kind_of(name)}")
        if name not in self._providers.blocks:
            if name in self.raw_section("providers"):
                raise Silenced("the provider block is wrong")
            hint = did_you_mean(name, self._providers.blocks) or f"add it: `providers: {{{name}: {{}}}}`"
            fail("unknown-reference", f"there is no provider block `{name}`", At(path), hint=hint)
        return name

    def _number(self, evaluation: Evaluation, raw: JsonValue, path: Path) -> int:
        if type(raw) is int:
            return raw
        number = evaluation.value(raw, path)
        if not isinstance(number, int) or isinstance(number, bool):
            id = "not-known-yet" if isinstance(number, (Deferred, Ref)) else "wrong-type"
            fail(id, f"`{path[-1]}` must be a whole number", At(path), label=f"this gives {kind_of(number)}")
        if not 0 <= number <= MOST_INSTANCES:
            fail("out-of-range", f"`{path[-1]}` must be between 0 and {MOST_INSTANCES}", At(path), label=f"{number}")
        return number


def has_template(raw: JsonValue) -> bool:
    """Whether there is an expression in a raw value."""
    find: Callable[[JsonValue], bool] = has_template
    if isinstance(raw, dict):
        return any(map(find, raw.values()))
    return any(map(find, raw)) if isinstance(raw, list) else isinstance(raw, Template)
