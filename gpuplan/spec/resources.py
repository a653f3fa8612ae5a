"""Resources to instances: every `Desired` of a configuration.

Called by `load` once the shape of the document is known to be good, or for the part of it that is.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import BaseModel

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS, Candidate, Desired, Kind, Settings
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.ports import ProviderType
from gpuplan.core.values import UNKNOWN, Attrs, JsonValue, Ref, Value, is_static
from gpuplan.spec.attributes import attributes_of
from gpuplan.spec.expressions import Evaluation, Names, Silenced, fail, together
from gpuplan.spec.model import MODELS, Document, Resource
from gpuplan.spec.pending import revealed
from gpuplan.spec.provider_blocks import Providers
from gpuplan.spec.scalars import Template
from gpuplan.spec.schema import check, kind_of
from gpuplan.spec.secrecy import misplaced_secrets
from gpuplan.spec.settings import settings_of
from gpuplan.spec.shapes import Block, Shape, Shapes
from gpuplan.spec.ssh_keys import SharedKeys

_SHAPING = frozenset({"count", "for_each", "nodes", "provider", "placement"})
_PEERS = 100
"""Ranks of a job that are told each other's addresses; each of them refers to all."""
_BLOCKS = frozenset({"lifecycle", "timeouts", "update", "spot", "placement", "health"})
"""Fields that hold fields of their own."""


class _Read(NamedTuple):
    """One block of a resource, evaluated and checked."""

    fields: Mapping[str, Value]
    model: Resource
    depends_on: frozenset[Address]


class _Made(NamedTuple):
    """What the instances of a block have in common."""

    candidates: tuple[Candidate, ...]
    depends_on: frozenset[Address]
    settings: Settings


class Expansion:
    """Expands resource after resource into `instances`; what is wrong goes to the sink."""

    def __init__(self, document: Document, shapes: Shapes, providers: Providers, names: Names, sink: Sink) -> None:
        self.instances: dict[Address, Desired] = {}
        self._document = document
        self._shapes = shapes
        self._providers = providers
        self._names = names
        self._sink = sink
        self._keys = SharedKeys({}, providers)

    def run(self, broken: Mapping[tuple[str, str], Container[str]]) -> None:
        """Everything that is not broken. Keys come last: they go where clusters need them. `broken` has the fields of
        each resource that were found wrong."""
        self._keys = SharedKeys(self._shared_keys(broken), self._providers)
        for section in (*(section for section in SECTIONS if section != "ssh_keys"), "ssh_keys"):
            for name in self._shapes.names(section):
                if (section, name) in broken:
                    self._salvage(section, name, broken[section, name])
                else:
                    self._guarded(section, name)

    def _guarded(self, section: str, name: str) -> None:
        try:
            self._shapes.target(section, name)
        except Silenced:
            self._salvage(section, name, _SHAPING)
            return
        try:
            self._resource(section, name)
        except SpecError as exc:
            self._report(exc)

    def _report(self, error: SpecError) -> None:
        if not isinstance(error, Silenced):
            self._sink.extend(error.diagnostics)

    def _resource(self, section: str, name: str) -> None:
        shape = self._shapes.target(section, name)
        path: Path = (section, name)
        made: _Made | None = None
        varies = shape.keyed and _varies(shape.raw)
        for block in shape.blocks.values():
            if made is None or varies:
                made = self._made(shape, block, path)
            self._add(block, made, path)

    def _made(self, shape: Shape, block: Block, path: Path) -> _Made:
        read = self._read(shape, block, path)
        settings = settings_of(read.model, lambda item, index: self._trigger(item, index, path))
        match path[0]:
            case "clusters":
                return _Made(self._candidates(block, read, path), read.depends_on, settings)
            case "services" | "jobs":
                target = self._target(read, path)
                depends_on = read.depends_on - {target} if block.nodes is not None else read.depends_on
                return _Made(self._beside(target, read, path), depends_on, settings)
        attrs = attributes_of(read.fields)
        providers = block.providers or self._users(shape, path)
        for provider in providers:
            self._check_options(attrs, provider, path)
        return _Made(tuple(Candidate(provider, attrs, path) for provider in providers), read.depends_on, settings)

    def _read(self, shape: Shape, block: Block, path: Path) -> _Read:
        evaluation = Evaluation(self._names, block.bound)
        raw = shape.raw
        fields = evaluation.value(raw, path)
        assert isinstance(fields, Mapping)
        model: Resource
        if fields is raw:
            model = getattr(self._document, str(path[0]))[path[1]]
        else:
            known = _without_nulls(fields)
            if misplaced := tuple(misplaced_secrets(known, path)):
                raise SpecError(diagnostics=misplaced)
            checked = check(MODELS[str(path[0])], known, path, evaluated=True)
            if isinstance(checked, tuple):
                raise SpecError(diagnostics=checked)
            model, fields = checked, known
        if not model.depends_on:
            return _Read(fields, model, frozenset(evaluation.refs))
        return _Read(fields, model, frozenset((*evaluation.refs, *self._depends_on(model.depends_on, path))))

    def _depends_on(self, items: Sequence[object], path: Path) -> Sequence[Address]:
        found: list[Address] = []
        errors: list[SpecError] = []
        for index, item in enumerate(items):
            try:
                found.append(self._named(item, At((*path, "depends_on", index))))
            except SpecError as exc:
                errors.append(exc)
        if errors:
            raise together(errors)
        return found

    def _salvage(self, section: str, name: str, wrong: Container[str]) -> None:
        """Report what else is wrong with a resource that has been given up: with all of it but those fields."""
        raw = self._shapes.raw_section(section).get(name)
        if not isinstance(raw, dict):
            return
        rest = {field: value for field, value in raw.items() if field not in wrong}
        bound: Mapping[str, Value] = {"each": {"key": UNKNOWN, "value": UNKNOWN}, "count": {"index": UNKNOWN}}
        bound = {root: value for root, value in bound.items() if ("for_each" if root == "each" else root) in raw}
        try:
            evaluation = Evaluation(self._names, bound)
            evaluation.value(rest, (section, name))
            if "provider" in rest:
                self._shapes.provider(evaluation, rest["provider"], (section, name, "provider"))
        except SpecError as exc:
            self._report(exc)

    def _candidates(self, block: Block, read: _Read, path: Path) -> tuple[Candidate, ...]:
        common = attributes_of(read.fields)
        if block.is_group:
            common["nodes"] = block.nodes
        placement = read.fields.get("placement")
        candidates = []
        for index, provider in enumerate(block.providers):
            attrs, place = common, path
            if isinstance(placement, Mapping):
                own = placement["any_of"]
                assert isinstance(own, Sequence)
                item = own[index]
                assert isinstance(item, Mapping)
                attrs = {**common, **attributes_of(item)}
                place = (*path, "placement", "any_of", index)
                self._check_references(item, place)
                self._check_options(attrs, provider, place if "options" in item else path)
            else:
                self._check_options(attrs, provider, path)
            candidates.append(Candidate(provider, self._keys.placed(attrs, provider), place))
        self._check_references(common, path)
        return tuple(candidates)

    def _target(self, read: _Read, path: Path) -> Address:
        """The cluster a service or a job runs on."""
        at = At((*path, "on"))
        target = self._named(read.fields["on"], at)
        if target.kind != "clusters":
            fail("wrong-type", "`on` must be a cluster", at, label=f"this is `{target}`", hint="write `${clusters.x}`")
        self._check_reference(Ref(target), "clusters", at)
        return target

    def _beside(self, target: Address, read: _Read, path: Path) -> tuple[Candidate, ...]:
        """One candidate for each provider where the cluster may be."""
        attrs = {**attributes_of(read.fields), "on": Ref(target)}
        blocks = self._shapes.target(target.kind, target.name).blocks
        chosen = blocks.values() if target.key is None else [blocks[target.key]]
        providers = dict.fromkeys(provider for block in chosen for provider in block.providers)
        return tuple(Candidate(provider, attrs, path) for provider in providers)

    def _users(self, shape: Shape, path: Path) -> Sequence[str]:
        """The providers that need a key which names none."""
        if shape.keyed:
            fail(
                "missing-field",
                f"`{shape.address}` needs `provider`",
                At(path, key=True),
                label="`provider` is missing here",
                hint="with `count` or `for_each` a key belongs to one provider",
            )
        return sorted(self._keys.used_at.get(shape.address.name, ()))

    def _add(self, block: Block, made: _Made, path: Path) -> None:
        candidates, depends_on, settings = made
        section, name, key, _ = block.address
        if not block.providers and section == "ssh_keys":
            for candidate in candidates:
                address = Address(section, name, candidate.provider)
                self.instances[address] = Desired(address, Kind.SSH_KEY, (candidate,), depends_on, path, settings)
        elif section in ("services", "jobs"):
            self._workload(block, made, path)
        elif block.nodes is None or block.is_group:
            kind = Kind.GROUP if block.is_group else SECTIONS[section]
            self.instances[block.address] = Desired(block.address, kind, candidates, depends_on, path, settings)
        else:
            for node in range(block.nodes):
                address = Address(section, name, key, node)
                self.instances[address] = Desired(address, Kind.NODE, candidates, depends_on, path, settings)

    def _workload(self, block: Block, made: _Made, path: Path) -> None:
        """One instance for each node that it runs on. Every rank of a job waits for the nodes of all of them."""
        section, name, key, _ = block.address
        kind = SECTIONS[section]
        on = made.candidates[0].attrs["on"] if made.candidates else None
        if block.nodes is None or not isinstance(on, Ref):
            needs = made.depends_on if not isinstance(on, Ref) else made.depends_on | {on.address}
            self.instances[block.address] = Desired(block.address, kind, made.candidates, needs, path, made.settings)
            return
        nodes = [on.address._replace(node=index) for index in range(block.nodes)]
        peers: Sequence[Ref] = [Ref(node) for node in nodes] if kind is Kind.JOB and 1 < len(nodes) <= _PEERS else ()
        beside = made.depends_on | {peer.address for peer in peers}
        for index, node in enumerate(nodes):
            more: Attrs = {"on": Ref(node), "peers": peers} if peers else {"on": Ref(node)}
            candidates = tuple(replace(place, attrs={**place.attrs, **more}) for place in made.candidates)
            address = Address(section, name, key, index)
            self.instances[address] = Desired(address, kind, candidates, beside | {node}, path, made.settings)

    def _shared_keys(self, skipped: Container[tuple[str, str]]) -> Mapping[str, Value]:
        texts: dict[str, Value] = {}
        for name, raw in self._shapes.raw_section("ssh_keys").items():
            if isinstance(raw, dict) and "provider" not in raw and ("ssh_keys", name) not in skipped:
                try:
                    key = Evaluation(self._names, {}).value(raw["public_key"], ("ssh_keys", name, "public_key"))
                except SpecError:
                    # Reported when the key itself is expanded.
                    continue
                texts[name] = attributes_of({"public_key": key}).get("public_key")
        return texts

    def _named(self, item: object, at: At) -> Address:
        """The address an entry of `depends_on` means: a reference, or the address itself as text."""
        if isinstance(item, Ref):
            return item.address
        if not isinstance(item, str):
            fail("wrong-type", "a resource must be named here", at, label=f"this gives {kind_of(item)}")
        try:
            address = Address.parse(item)
        except ValueError:
            fail("wrong-form", f"`{item}` is not an address", at, hint="write it as `clusters.train`")
        return self._shapes.check(address, at)

    def _trigger(self, item: object, index: int, path: Path) -> Address:
        return self._named(item, At((*path, "lifecycle", "replace_triggered_by", index)))

    def _check_options(self, attrs: Attrs, provider: str, place: Path) -> None:
        options = attrs.get("options")
        provider_type = self._providers.types.get(provider)
        if options is None or provider_type is None or not is_static(options):
            return
        path = (*place, "options")
        model = _options_model(provider_type, str(place[0]))
        if model is None and place[0] == "clusters":
            label = Label(At(path, key=True), "not for nodes of this provider")
            summary = f"`{provider_type.name}` has no `options` for nodes"
            raise SpecError(diagnostics=(Diagnostic("unsupported-by-provider", summary, (label,)),))
        if model is None:
            return
        checked = check(model, revealed(options), path)
        if isinstance(checked, tuple):
            raise SpecError(diagnostics=checked)

    def _check_references(self, attrs: Attrs, path: Path) -> None:
        """That resources are meant where one can be, and of the right kind."""
        errors: list[SpecError] = []
        for section in ("ssh_keys", "networks", "volumes"):
            items = attrs.get(section)
            if not isinstance(items, Sequence) or isinstance(items, str):
                continue
            for index, item in enumerate(items):
                place = (*path, section, index)
                try:
                    if isinstance(item, Mapping):
                        self._check_reference(item.get("volume"), section, At((*place, "volume")))
                    else:
                        self._check_reference(item, section, At(place))
                except SpecError as exc:
                    errors.append(exc)
        if errors:
            raise together(errors)

    def _check_reference(self, item: Value, section: str, at: At) -> None:
        if isinstance(item, str):
            name = item.removeprefix(f"{section}.")
            if name in self._shapes.names(section):
                hint = f'write `"${{{section}.{name}}}"`'
                fail("wrong-form", f"`{item}` is an id at the provider", at, label="not a reference", hint=hint)
        if not isinstance(item, Ref):
            return
        if item.address.kind != section:
            fail("wrong-type", f"one of `{section}` belongs here", at, label=f"this is `{item.address}`")
        shape = self._shapes.target(section, item.address.name)
        if item.address.key is None and shape.keyed:
            one = next((f"say which one: `{block.address}`" for block in shape.blocks.values()), None)
            fail("unknown-reference", f"`{item.address}` is several", at, hint=one)


def _options_model(provider_type: ProviderType, section: str) -> type[BaseModel] | None:
    match section:
        case "volumes":
            return provider_type.volume_options
        case "networks":
            return provider_type.network_options
    return provider_type.node_options


def _without_nulls(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Without what turned out to be null, which is the same as not being written."""
    return {
        name: _without_nulls(value) if name in _BLOCKS and isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None
    }


def _varies(raw: JsonValue) -> bool:
    """Whether blocks of a resource can differ: some expression asks for `each` or `count`."""
    if isinstance(raw, dict):
        return any(map(_varies, raw.values()))
    if isinstance(raw, list):
        return any(map(_varies, raw))
    return isinstance(raw, Template) and ("each" in raw or "count" in raw)
