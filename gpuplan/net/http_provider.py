"""Make a provider type out of an adapter class, its profile and its options.

    PROVIDER = http_type(name="acme", title="Acme Cloud", adapter=Acme, options=Options,
                         capabilities=CAPABILITIES, profile=PROFILE)

Opening one finds the keys, chooses the base URL, and puts the layers of the transport together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.ports import OpenContext, Provider, ProviderType
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.api import AccountFacts, Api
from gpuplan.net.profile import Credential, HttpProfile

if TYPE_CHECKING:
    from gpuplan.net.auth import Auth
    from gpuplan.net.exchange import Wire
    from gpuplan.net.tls import Line

THROWAWAY_KEY = "gpuplan-emulator"
"""The key that is sent to an emulator, whatever the user has."""


class HttpOptions(BaseModel):
    """What every HTTP provider's block may say. An adapter adds its own fields, and further credentials as fields of
    type SecretStr under the name the profile gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(None, description="base URL, instead of the provider's own")
    key: SecretStr | None = Field(None, description="API key; better left to the environment")
    key_env: str | None = Field(None, description="variable that holds the API key, for a second account of one type")
    timeout: float | None = Field(None, gt=0, description="seconds to wait for an answer")


O = TypeVar("O", bound=HttpOptions)  # noqa: E741  options, as in `ProviderType.options`


@dataclass(frozen=True, slots=True)
class Located:
    """Where an account is and how it is entered, where a configuration of the provider's own tools says that."""

    endpoint: str
    auth: "Auth"
    line: "Line"
    keys: Mapping[str, Secret] = field(default_factory=dict)
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    """Of the block, where it does not say them itself."""


@dataclass(frozen=True, slots=True)
class HttpOpener(Generic[O]):
    """Opens accounts of one type; `ProviderType.open` of every HTTP provider."""

    type_name: str
    adapter: Callable[[Api, O], Provider]
    options: type[O]
    capabilities: Callable[[O], Capabilities]
    profile: Callable[[O], HttpProfile]
    locate: "Callable[[O, OpenContext], Located] | None" = None
    """Asked where neither an emulator nor an `endpoint` is named. Raises NoCredentials."""
    wire: "Wire | None" = None
    """Instead of the network: an emulator in this process."""

    def through(self, wire: "Wire") -> "HttpOpener[O]":
        return replace(self, wire=wire)

    def __call__(self, options: BaseModel, context: OpenContext) -> Provider:
        """Raises NoCredentials."""
        # The transport brings asyncio, logging and the HTTP library: only for those who really open an account.
        from gpuplan.net.credentials import find_credentials
        from gpuplan.net.limits import Limits
        from gpuplan.net.transport import Border, Limiter, Retry

        if not isinstance(options, self.options):
            raise TypeError(f"options of {self.options.__name__} expected, not {type(options).__name__}")
        can, profile, block = self.capabilities(options), self.profile(options), context.block
        located = None
        if self.locate is not None and not context.emulator and options.endpoint is None:
            located = self.locate(options, context)
            profile = replace(profile, auth=located.auth)
            options = options.model_copy(update=dict(located.options))
            keys = dict(located.keys)
        elif context.emulator:
            keys = {name: Secret(THROWAWAY_KEY) for name in profile.credentials}
        else:
            wanted = _with_variable(profile.credentials, options.key_env)
            keys = find_credentials(wanted, _given(options, wanted), context.environ, provider=block.name)
        for key in keys.values():
            context.redactor.add(key.reveal())
        endpoints = self._endpoints(profile, options, context)
        if located is not None:
            endpoints[""] = located.endpoint.rstrip("/")
        concurrency = min(can.max_concurrency, block.max_concurrency or can.max_concurrency)
        border = Border(
            self.wire or _network(concurrency, context.emulator is not None, located.line if located else None),
            profile,
            provider=block.name,
            endpoints=endpoints,
            keys=keys,
            clock=context.clock,
            redactor=context.redactor,
            timeout_seconds=options.timeout,
        )
        limiter = Limiter(border, context.clock, Limits(can.rate_limit, profile.buckets), concurrency)
        account = AccountFacts(block.name, endpoints[""], keys, context.emulator, context.redactor)
        retry = Retry(limiter, context.clock, profile.retries)
        return self.adapter(Api(retry, border, account, context.clock, profile.pages), options)

    def _endpoints(self, profile: HttpProfile, options: HttpOptions, context: OpenContext) -> dict[str, str]:
        """Base URLs by host name. An emulator stands in for all: `{emulator}/{type}` for the first host, and
        `{emulator}/{type}/@{name}` for others, each followed by the path of the real one."""
        endpoints: dict[str, str] = {}
        for name, host in profile.hosts.items():
            given = options.endpoint if name == "" else None
            url = given or next((context.environ[var] for var in host.env if context.environ.get(var)), host.url)
            if context.emulator:
                mount = f"{context.emulator.rstrip('/')}/{self.type_name}"
                url = (f"{mount}/@{name}" if name else mount) + urlsplit(host.url).path
            endpoints[name] = url.rstrip("/")
        return endpoints


def http_type(
    *,
    name: str,
    title: str,
    adapter: Callable[[Api, O], Provider],
    options: type[O],
    capabilities: Capabilities | Callable[[O], Capabilities],
    profile: HttpProfile | Callable[[O], HttpProfile],
    node_options: type[BaseModel] | None = None,
    volume_options: type[BaseModel] | None = None,
    network_options: type[BaseModel] | None = None,
    defaults: Callable[[Mapping[str, str]], Mapping[str, JsonValue]] = lambda environ: {},
    locate: Callable[[O, OpenContext], Located] | None = None,
) -> ProviderType:
    """`capabilities` and `profile` are values, or functions of the options where a flavour differs. `defaults` are
    options out of the environment, see `ProviderType`; `locate` is as in `HttpOpener`."""
    opener = HttpOpener(name, adapter, options, _function(capabilities), _function(profile), locate)

    def told(given: BaseModel) -> Capabilities:
        assert isinstance(given, options)
        return opener.capabilities(given)

    return ProviderType(
        name=name,
        title=title,
        options=options,
        capabilities=told,
        open=opener,
        node_options=node_options,
        volume_options=volume_options,
        network_options=network_options,
        defaults=defaults,
    )


V = TypeVar("V", Capabilities, HttpProfile)


def _function(value: V | Callable[[O], V]) -> Callable[[O], V]:
    return value if callable(value) else lambda _: value


def _given(options: HttpOptions, wanted: Mapping[str, Credential]) -> dict[str, Secret]:
    """Credentials written in the block: a field of the name the profile uses."""
    found = {name: getattr(options, name, None) for name in wanted}
    return {name: Secret(value.get_secret_value()) for name, value in found.items() if isinstance(value, SecretStr)}


def _with_variable(wanted: Mapping[str, Credential], variable: str | None) -> Mapping[str, Credential]:
    """`key_env` replaces all other places: two accounts of one type must not fall back on one key."""
    if variable is None:
        return wanted
    return {
        name: replace(credential, env=(variable,), files=()) if name == "key" else credential
        for name, credential in wanted.items()
    }


def _network(concurrency: int, is_local: bool, line: "Line | None") -> "Wire":
    from gpuplan.net.wire import HttpxWire

    return HttpxWire(concurrency=concurrency, is_local=is_local, line=line)
