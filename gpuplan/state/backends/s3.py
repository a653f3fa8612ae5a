"""The state in a bucket of S3, or of whoever speaks its protocol: conditional writes, and no second service.

The layout and its rules are those of `objects`. The client is obstore, the Rust `object_store`: it signs, repeats what
may be repeated, and knows the conditions `If-Match` and `If-None-Match`. Its calls block a thread, not the event loop.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, quote

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from pydantic import BaseModel, Field

from gpuplan.core.errors import StateError
from gpuplan.net.threads import run_blocking
from gpuplan.state.backends.head import decode_head
from gpuplan.state.backends.objects import Changed, ObjectBackend
from gpuplan.state.backends.options import BackendOptions, Seconds, query_in, query_of
from gpuplan.state.registry import BackendType, Opening
from gpuplan.state.stored import refused, unreachable

if TYPE_CHECKING:
    from obstore import PutMode

Result = TypeVar("Result")

_HEAD = "head.json"
_PREFIX = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
_ATTEMPTS = 3
_SAID = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_STATUS = re.compile(r"status code: (\d+ [A-Za-z ]+)")
_OTHER_VERSION = '"00000000000000000000000000000000"'


class Options(BackendOptions):
    bucket: str = Field(min_length=3)
    prefix: str = Field(pattern=_PREFIX, description="one for each project")
    region: str | None = None
    endpoint: str | None = Field(None, pattern=r"^https?://", description="of another server than Amazon's")
    timeout: Seconds = 30.0


class S3Objects:
    """One workspace's objects below `prefix/workspace/`."""

    def __init__(self, options: Options, opening: Opening) -> None:
        self.location = f"s3://{options.bucket}/{options.prefix}/{opening.workspace}"
        self._store = _store(options, opening.environ, f"{options.prefix}/{opening.workspace}", self.location)

    async def look(self) -> tuple[bytes, str] | None:
        return await self._ask(lambda: self._read(_HEAD))

    async def swap(self, content: bytes, expect: str | None) -> str:
        if expect is not None:
            return await self._ask(lambda: self._put(_HEAD, content, {"e_tag": expect}))
        version = await self._ask(lambda: self._put(_HEAD, content, "create"))
        await self._check_conditions(content)
        return version

    async def read(self, name: str) -> bytes | None:
        found = await self._ask(lambda: self._read(name))
        return None if found is None else found[0]

    async def write(self, name: str, content: bytes) -> None:
        await self._ask(lambda: self._put(name, content, "overwrite"))

    async def remove(self, names: Sequence[str]) -> None:
        if names:
            await self._ask(lambda: obstore.delete(self._store, list(names)))

    async def names(self) -> Sequence[str]:
        found = await self._ask(lambda: [item["path"] for batch in obstore.list(self._store) for item in batch])
        return [name for name in found if name != _HEAD]

    async def close(self) -> None:
        """Nothing to release: connections are the store's."""

    async def _check_conditions(self, content: bytes) -> None:
        """Once in the life of a state: a server that takes no notice of conditions must not hold one."""
        conditions: tuple[PutMode, ...] = ("create", {"e_tag": _OTHER_VERSION})
        for condition in conditions:
            try:
                await self._ask(partial(self._put, _HEAD, content, condition))
            except Changed:
                continue
            with suppress(StateError):
                # The refusal counts more than what is left there.
                await self.remove([_HEAD])
            raise refused(
                self.location,
                "it takes no notice of `If-Match` and `If-None-Match`",
                "two runs could overwrite each other there: use a server that knows conditional writes",
            )

    def _read(self, name: str) -> tuple[bytes, str] | None:
        try:
            found = obstore.get(self._store, name)
        except FileNotFoundError as exc:
            if "NoSuchBucket" in str(exc):
                raise
            return None
        return bytes(found.bytes()), found.meta["e_tag"] or ""

    def _put(self, name: str, content: bytes, mode: "PutMode") -> str:
        try:
            return obstore.put(self._store, name, content, mode=mode, use_multipart=False)["e_tag"] or ""
        except (AlreadyExistsError, PreconditionError) as exc:
            raise Changed from exc

    async def _ask(self, step: Callable[[], Result]) -> Result:
        try:
            return await run_blocking(step)
        except FileNotFoundError as exc:
            raise refused(self.location, "there is no such bucket", "create the bucket, or name another") from exc
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise refused(
                self.location, _said(exc), "the key must be allowed to get, put, delete and list below the prefix"
            ) from exc
        except (BaseError, TimeoutError, OSError) as exc:
            raise unreachable(self.location, _said(exc)) from exc


def _store(options: Options, environ: Mapping[str, str], prefix: str, location: str) -> S3Store:
    """Keys by the usual names; without any, obstore asks for the identity of the machine or the workload."""
    wanted = {
        "access_key_id": environ.get("AWS_ACCESS_KEY_ID"),
        "secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": environ.get("AWS_SESSION_TOKEN"),
        "region": options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "endpoint": options.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"),
    }
    if environ.get("AWS_PROFILE") and not wanted["access_key_id"]:
        raise _profile(location)
    config = {name: value for name, value in wanted.items() if value}
    return S3Store(
        options.bucket,
        prefix=prefix,
        config=config,  # type: ignore[arg-type]  # a TypedDict, put together from what is there
        client_options={
            "allow_http": config.get("endpoint", "").startswith("http://"),
            "timeout": timedelta(seconds=options.timeout),
            "connect_timeout": timedelta(seconds=min(options.timeout, 10.0)),
        },
        retry_config={"max_retries": _ATTEMPTS, "retry_timeout": timedelta(seconds=2 * options.timeout)},
    )


def _profile(location: str) -> StateError:
    return refused(
        location,
        "`AWS_PROFILE` is set, and there is no `AWS_ACCESS_KEY_ID`",
        'let the AWS tool export its keys: eval "$(aws configure export-credentials --format env)"',
    )


def _said(exc: Exception) -> str:
    """What the server said, without the request, which may hold the id of a key."""
    text = str(exc)
    if (said := _SAID.search(text)) is not None:
        return f"{said[1]}: {said[2]}" if said[2] else said[1]
    if (status := _STATUS.search(text)) is not None:
        return status[1].strip()
    return "the connection broke" if "Error performing" in text else text.splitlines()[0][:200]


def _open(options: BaseModel, opening: Opening) -> ObjectBackend:
    assert isinstance(options, Options)
    return ObjectBackend(S3Objects(options, opening), opening.clock)


async def _workspaces(options: BaseModel, opening: Opening) -> tuple[str, ...]:
    assert isinstance(options, Options)
    location = f"s3://{options.bucket}/{options.prefix}"
    store = _store(options, opening.environ, options.prefix, location)

    def look() -> list[str]:
        names = [path.rstrip("/") for path in obstore.list_with_delimiter(store)["common_prefixes"]]
        return [name for name in names if _has_state(store, name, location)]

    return tuple(sorted(await run_blocking(look)))


def _has_state(store: S3Store, name: str, location: str) -> bool:
    try:
        content = bytes(obstore.get(store, f"{name}/{_HEAD}").bytes())
    except FileNotFoundError:
        return False
    return decode_head(content, location).snapshot is not None


def _from_url(url: SplitResult) -> Mapping[str, str]:
    return {"bucket": url.netloc, "prefix": url.path.strip("/"), **query_in(url)}


def _to_url(options: BaseModel) -> str:
    assert isinstance(options, Options)
    return f"s3://{options.bucket}/{quote(options.prefix)}{query_of(options, 'bucket', 'prefix')}"


BACKEND = BackendType("s3", Options, _open, _workspaces, _from_url, _to_url)
