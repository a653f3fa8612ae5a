"""The `providers` section: accounts, with options checked by the adapter's own model.

Called by `load`; `placements` asks it what a provider creates.
"""

from collections.abc import Mapping

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import ProviderBlock
from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.errors import GpuplanError, SpecError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.ports import ProviderType
from gpuplan.core.values import JsonValue, Value, is_static
from gpuplan.spec.expressions import Evaluation, Names, Silenced
from gpuplan.spec.model import ProviderConfig
from gpuplan.spec.pending import revealed
from gpuplan.spec.schema import check

_OWN = ("type", "retired", "max_concurrency")


class Providers:
    """The configured accounts: `blocks` as the rest of gpuplan sees them, `types` and `capabilities` where known."""

    def __init__(self) -> None:
        self.blocks: dict[str, ProviderBlock] = {}
        self.types: dict[str, ProviderType] = {}
        self.capabilities: dict[str, Capabilities] = {}
        self.options: dict[str, Value] = {}
        """As evaluated, secrets still marked: for the digest."""


def read_providers(
    declared: Mapping[str, ProviderConfig],
    raw: Mapping[str, JsonValue],
    types: Mapping[str, ProviderType],
    names: Names,
    sink: Sink,
) -> Providers:
    """Every declared account; what is wrong goes to `sink`, and a block in trouble is there without capabilities."""
    providers = Providers()
    for name, config in declared.items():
        block = raw[name]
        written = {key: value for key, value in block.items() if key not in _OWN} if isinstance(block, dict) else {}
        try:
            _read(providers, name, config, written, types, names)
        except Silenced:
            continue
        except SpecError as exc:
            sink.extend(exc.diagnostics)
    return providers


def _read(
    providers: Providers,
    name: str,
    config: ProviderConfig,
    written: dict[str, JsonValue],
    types: Mapping[str, ProviderType],
    names: Names,
) -> None:
    path = ("providers", name)
    type_name = config.type or name
    providers.blocks[name] = ProviderBlock(name, type_name, {}, path, config.retired, config.max_concurrency)
    provider_type = _type(type_name, types, At((*path, "type")) if config.type else At(path, key=True))
    providers.types[name] = provider_type
    options = Evaluation(names, {}).value(written, path)
    if not is_static(options):
        late = Label(At(path, key=True), "needs something that is known only after apply")
        raise SpecError(diagnostics=(Diagnostic("not-known-yet", f"`{name}` must be known when planning", (late,)),))
    plain = revealed(options)
    assert isinstance(plain, dict)
    plain = {**provider_type.defaults(names.environ), **plain}
    model = check(provider_type.options, plain, path, evaluated=options is not written)
    if isinstance(model, tuple):
        raise SpecError(diagnostics=model)
    providers.options[name] = options
    providers.blocks[name] = ProviderBlock(name, type_name, plain, path, config.retired, config.max_concurrency)
    providers.capabilities[name] = provider_type.capabilities(model)


def _type(name: str, types: Mapping[str, ProviderType], at: At) -> ProviderType:
    try:
        return types[name]
    except KeyError as exc:
        hint = did_you_mean(name, types) or f"there are: {', '.join(sorted(types))}"
        unknown = Diagnostic(
            "unknown-provider-type", f"there is no provider type `{name}`", (Label(at, "asked for here"),), hint=hint
        )
        raise SpecError(diagnostics=(unknown,)) from exc
    except GpuplanError as exc:
        placed = (
            Diagnostic(d.id, d.summary, d.labels or (Label(at, "asked for here"),), d.facts, d.hint, d.commands)
            for d in exc.diagnostics
        )
        raise SpecError(diagnostics=tuple(placed)) from exc
