"""Resources to instances: every `Desired` of a configuration.

Called by `load` once the shape of the document is known to be good, or for the part of it that is.
"""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS, Candidate, Desired, Kind, Settings
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.values import UNKNOWN, Attrs, JsonValue, Ref, Value, is_static
from gpuplan.spec.attributes import attributes_of
from gpuplan.spec.expressions import Evaluation, Names, Silenced, fail, together
from gpuplan.spec.model import MODELS, Document, Resource
from gpuplan.spec.pending import revealed
from gpuplan.spec.provider_blocks import Providers
from gpuplan.spec.scalars import Template
from gpuplan.spec.schema import check, kind_of
from gpuplan.spec.settings import settings_of
from gpuplan.spec.shapes import Block, Shape, Shapes
from gpuplan.spec.ssh_keys import SharedKeys

_SHAPING = frozenset({"count", "for_each", "nodes", "provider", "placement"})
_BLOCKS = frozenset({"lifecycle", "timeouts", "update", "spot", "placement", "health"})
"""Fields that hold fields of their own."""


class _Read(NamedTuple):
    """One block of a resource, evaluated and checked."""

    fields: Mapping[str, Value]
    model: Resource
    depends_on: frozenset[Address]


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
        read: _Read | None = None
        varies = shape.keyed and _varies(shape.raw)
        for block in shape.blocks.values():
            if read is None or varies:
                read = self._read(shape, block, path)
            settings = settings_of(read.model, lambda item, index: self._trigger(item, index, path))
            if section == "clusters":
                self._cluster(block, read, settings, path)
            elif section in ("services", "jobs"):
                self._workload(block, read, settings, path)
            else:
                self._plain(block, read, settings, path, shape)

    def _read(self, shape: Shape, block: Block, path: Path) -> _Read:
        evaluation = Evaluation(self._names, block.bound)
        raw = dict(shape.raw)
        fields = evaluation.value(raw, path)
        assert isinstance(fields, Mapping)
        model: Resource
        if fields is raw:
            model = getattr(self._document, str(path[0]))[path[1]]
        else:
            known = _without_nulls(fields)
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

    def _cluster(self, block: Block, read: _Read, settings: Settings, path: Path) -> None:
        common = attributes_of(read.fields)
        if block.is_group:
            common["nodes"] = block.nodes
        placement = read.fields.get("placement")
        candidates = []
        for index, provider in enumerate(block.providers):
            attrs: Attrs = common
            place = path
            if isinstance(placement, Mapping):
                own = placement["any_of"]
                assert isinstance(own, Sequence)
                item = own[index]
                assert isinstance(item, Mapping)
                attrs = {**common, **attributes_of(item)}
                place = (*path, "placement", "any_of", index)
                self._check_options(attrs, provider, (*(place if "options" in item else path), "options"))
            else:
                self._check_options(attrs, provider, (*path, "options"))
            self._check_references(attrs, path)
            candidates.append(Candidate(provider, self._keys.placed(attrs, provider), place))
        self._add(block, Kind.GROUP if block.is_group else Kind.NODE, tuple(candidates), read, settings, path)

    def _add(
        self,
        block: Block,
        kind: Kind,
        candidates: tuple[Candidate, ...],
        read: _Read,
        settings: Settings,
        path: Path,
    ) -> None:
        address = block.address
        if block.nodes is None or kind is Kind.GROUP:
            self.instances[address] = Desired(address, kind, candidates, read.depends_on, path, settings)
            return
        section, name, key, _ = address
        for node in range(block.nodes):
            instance = Address(section, name, key, node)
            self.instances[instance] = Desired(instance, kind, candidates, read.depends_on, path, settings)

    def _workload(self, block: Block, read: _Read, settings: Settings, path: Path) -> None:
        at = At((*path, "on"))
        target = self._named(read.fields["on"], at)
        if target.kind != "clusters":
            fail("wrong-type", "`on` must be a cluster", at, label=f"this is `{target}`", hint="write `${clusters.x}`")
        shape = self._shapes.target(target.kind, target.name)
        attrs = {**attributes_of(read.fields), "on": Ref(target)}
        providers = dict.fromkeys(
            provider
            for key, other in shape.blocks.items()
            if target.key is None or key == target.key
            for provider in other.providers
        )
        candidates = tuple(Candidate(provider, attrs, path) for provider in providers)
        needs = _Read(read.fields, read.model, read.depends_on | {target})
        self._add(block, SECTIONS[path[0]] if isinstance(path[0], str) else Kind.JOB, candidates, needs, settings, path)

    def _plain(self, block: Block, read: _Read, settings: Settings, path: Path, shape: Shape) -> None:
        attrs = attributes_of(read.fields)
        kind = SECTIONS[str(path[0])]
        if block.providers:
            self._add(block, kind, (Candidate(block.providers[0], attrs, path),), read, settings, path)
            return
        if shape.keyed:
            fail(
                "missing-field",
                f"`{shape.address}` needs `provider`",
                At(path, key=True),
                label="`provider` is missing here",
                hint="with `count` or `for_each` a key belongs to one provider",
            )
        for provider in sorted(self._keys.used_at.get(str(path[1]), ())):
            placed = Block(block.address._replace(key=provider), {}, (provider,))
            self._add(placed, kind, (Candidate(provider, attrs, path),), read, settings, path)

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

    def _check_options(self, attrs: Attrs, provider: str, path: Path) -> None:
        options = attrs.get("options")
        provider_type = self._providers.types.get(provider)
        if options is None or provider_type is None or not is_static(options):
            return
        if provider_type.node_options is None:
            label = Label(At(path, key=True), "not for nodes of this provider")
            summary = f"`{provider_type.name}` has no `options` for nodes"
            raise SpecError(diagnostics=(Diagnostic("unsupported-by-provider", summary, (label,)),))
        checked = check(provider_type.node_options, revealed(options), path)
        if isinstance(checked, tuple):
            raise SpecError(diagnostics=checked)

    def _check_references(self, attrs: Attrs, path: Path) -> None:
        """That whole resources stand where one can be meant, and of the right kind."""
        for field in ("ssh_keys", "networks"):
            items = attrs.get(field)
            for index, item in enumerate(items if isinstance(items, Sequence) and not isinstance(items, str) else ()):
                self._check_reference(item, field, At((*path, field, index)))
        mounts = attrs.get("volumes")
        for index, mount in enumerate(mounts if isinstance(mounts, Sequence) and not isinstance(mounts, str) else ()):
            if isinstance(mount, Mapping):
                self._check_reference(mount.get("volume"), "volumes", At((*path, "volumes", index, "volume")))

    def _check_reference(self, item: Value, section: str, at: At) -> None:
        if not isinstance(item, Ref):
            return
        if item.address.kind != section:
            fail("wrong-type", f"one of `{section}` belongs here", at, label=f"this is `{item.address}`")
        if item.address.key is None and self._shapes.target(section, item.address.name).keyed:
            one = next(iter(self._shapes.target(section, item.address.name).blocks.values()), None)
            hint = f"say which one: `{one.address}`" if one else None
            fail("unknown-reference", f"`{item.address}` is several", at, hint=hint)


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
