"""SSH keys that name no provider: one instance at each provider that keeps keys, the text itself everywhere else.

Called by `resources` for every cluster that uses keys, before the keys themselves are expanded.
"""

from collections.abc import Mapping, Sequence

from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs, Ref, Value
from gpuplan.spec.provider_blocks import Providers


class SharedKeys:
    """`texts` are the public keys of the ssh keys without a provider, by name."""

    def __init__(self, texts: Mapping[str, Value], providers: Providers) -> None:
        self._texts = texts
        self._providers = providers
        self.used_at: dict[str, set[str]] = {}
        """Key name to the provider blocks that need it as an object."""

    def placed(self, attrs: Attrs, provider: str) -> Attrs:
        """The attributes of a node with each shared key as that provider takes it."""
        keys = attrs.get("ssh_keys")
        if not isinstance(keys, Sequence) or isinstance(keys, str):
            return attrs
        placed = [self._key(key, provider) for key in keys]
        return (
            attrs if all(new is old for new, old in zip(placed, keys, strict=True)) else {**attrs, "ssh_keys": placed}
        )

    def _key(self, key: Value, provider: str) -> Value:
        if not isinstance(key, Ref) or key.address.kind != "ssh_keys" or key.address.name not in self._texts:
            return key
        name = key.address.name
        capabilities = self._providers.capabilities.get(provider)
        if capabilities is not None and Kind.SSH_KEY not in capabilities.kinds:
            return self._texts[name]
        self.used_at.setdefault(name, set()).add(provider)
        return Ref(key.address._replace(key=provider))
