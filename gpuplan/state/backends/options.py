"""What the options of all backends have in common. Imported only where a backend is configured."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, description="seconds to wait for an answer")]


class BackendOptions(BaseModel):
    """The base of every backend's options: frozen, and nothing beside its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def query_of(options: BackendOptions, *said: str) -> str:
    """The part of a URL that says what host and path do not: every option that is not its default."""
    rest = options.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(said))
    pairs = [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in rest.items()]
    return f"?{urlencode(pairs)}" if pairs else ""


def query_in(url: SplitResult) -> Mapping[str, str]:
    """The options that a URL names in its query."""
    return dict(parse_qsl(url.query, keep_blank_values=True))
