"""Find the keys of an account: in the provider block, the environment, the files of the provider's own tools.

The only place that reads any of these.
"""

import json
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpuplan.core.errors import Failure, NoCredentials
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.payload import dig
from gpuplan.net.profile import ConfigFile, Credential


def find_credentials(
    wanted: Mapping[str, Credential], given: Mapping[str, Secret], environ: Mapping[str, str], *, provider: str
) -> dict[str, Secret]:
    """Every credential that was found, by name; `given` come first. Raises NoCredentials for a required one."""
    found: dict[str, Secret] = {}
    for name, credential in wanted.items():
        secret = given.get(name) or _look(credential, environ)
        if secret is not None:
            found[name] = secret
        elif credential.required:
            raise _missing(credential, provider)
    return found


def _look(credential: Credential, environ: Mapping[str, str]) -> Secret | None:
    for variable in credential.env:
        if value := environ.get(variable, "").strip():
            return Secret(value)
    for file in credential.files:
        if kept := _read(file, environ):
            return Secret(kept)
    return None


def _read(file: ConfigFile, environ: Mapping[str, str]) -> str | None:
    """The key in a file; None where there is no such file, or no key in it."""
    path = _place(file.path, environ)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    if not file.pick:
        return text.strip()
    content = _parse(path, text)
    value = dig(content, file.pick) if isinstance(file.pick, str) else file.pick(content)
    return value.strip() if isinstance(value, str) else None


def _place(path: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "/nonexistent")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return Path(path.replace("$XDG_CONFIG_HOME", config).replace("~", home, 1 if path.startswith("~") else 0))


def _parse(path: Path, text: str) -> JsonValue:
    """A file that does not parse holds no key: its own tool will say what is wrong with it."""
    # Only accounts without a key in the environment come here.
    import yaml

    content: JsonValue = None
    with suppress(ValueError, yaml.YAMLError):
        if path.suffix == ".toml":
            content = tomllib.loads(text)
        elif path.suffix == ".json":
            content = json.loads(text)
        elif path.suffix == ".ini":
            content = _sections(text)
        else:
            content = yaml.safe_load(text)
    return content


def _sections(text: str) -> JsonValue:
    """Raises ValueError."""
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as exc:
        raise ValueError(str(exc)) from exc
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _missing(credential: Credential, provider: str) -> NoCredentials:
    looked = (*(f"`{name}`" for name in credential.env), *(f"`{file.path}`" for file in credential.files))
    hint = f"set `{credential.env[0]}`" if credential.env else "name the key in the provider block"
    if credential.get_one_at:
        hint += f"; keys are made at {credential.get_one_at}"
    facts = (f"looked for it in {', '.join(looked)}",) if looked else ()
    return NoCredentials(Failure(provider, "use this account", hint=hint, facts=facts))
