"""The state in tables of PostgreSQL, which are made on first use.

Every write is a transaction that holds the workspace's row and has seen there that the lock, lineage and serial are
still the ones it counts on. Nothing is tied to a connection: the lock is a row with a lease and a fence, so it holds
behind a pooler that hands every transaction another connection, and a connection that breaks can be replaced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar
from urllib.parse import SplitResult, quote, unquote

import asyncpg
from pydantic import BaseModel, Field

from gpuplan.core.ports import Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.backends import postgres_tables as sql
from gpuplan.state.backends.options import BackendOptions, Seconds, query_in, query_of
from gpuplan.state.codec import corrupt, decode_entry, decode_state, encode_entry, encode_state
from gpuplan.state.decoding import Decoder
from gpuplan.state.encoding import Encoder
from gpuplan.state.lock import decode_lock, encode_lock, is_dead, locked, lost, no_such_lock
from gpuplan.state.registry import BackendType, Opening
from gpuplan.state.stale import check_base, check_successor
from gpuplan.state.stored import KEPT_SNAPSHOTS, here, refused, unreachable

Result = TypeVar("Result")
SslMode: TypeAlias = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_ATTEMPTS = 4
_PAUSE_SECONDS = 0.1
_BROKEN = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
)
_ONE_ROW = "UPDATE 1"
_NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


class Options(BackendOptions):
    host: str | None = Field(None, description="or PGHOST")
    port: int | None = Field(None, ge=1, le=65535, description="or PGPORT")
    database: str | None = Field(None, description="or PGDATABASE")
    user: str | None = Field(None, description="or PGUSER")
    schema_name: str = Field(alias="schema", pattern=r"^[a-z][a-z0-9_]{0,62}$", description="one for each project")
    sslmode: SslMode | None = Field(None, description="or PGSSLMODE")
    timeout: Seconds = 30.0


Work: TypeAlias = Callable[[asyncpg.Connection, bool], Awaitable[Result]]
"""With the connection, and whether an earlier attempt may have been carried out."""


class PostgresBackend:
    """One workspace in one schema; one connection, opened when it is first needed."""

    def __init__(self, options: Options, opening: Opening) -> None:
        self.location = f"{_address(options, opening.environ)}/{options.schema_name}/{opening.workspace}"
        self._options = options
        self._environ = opening.environ
        self._clock = opening.clock
        self._workspace = opening.workspace
        self._connection: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._position = (0, 0, 0)
        """Serial, fence, and how many appends there were under them."""

    async def load(self) -> Stored:
        async def work(connection: asyncpg.Connection, again: bool) -> asyncpg.Record | None:
            return await self._if_there(connection.fetchrow(self._sql(sql.LOAD), self._workspace))

        row = await self._ask(work)
        if row is None or row["snapshot"] is None:
            return Stored(None, ())
        state = here(decode_state(row["snapshot"].encode(), self.location), self.location)
        return Stored(state, self._decoded(row["journal"] or ()))

    async def lock(self, request: LockInfo) -> LockInfo:
        async def work(connection: asyncpg.Connection, again: bool) -> LockInfo:
            async with connection.transaction():
                row = await self._hold(connection)
                holder = self._holder(row["lock"])
                if holder is not None and holder.id != request.id and not is_dead(holder, self._clock.now()):
                    raise locked(holder)
                held = replace(request, fence=int(row["fence"]) + 1)
                await self._set_lock(connection, held.fence, held)
                return held

        return await self._ask(work)

    async def renew(self, held: LockInfo) -> LockInfo:
        async def work(connection: asyncpg.Connection, again: bool) -> LockInfo:
            lease = encode_lock(held).decode()
            done = await connection.execute(self._sql(sql.SET_LEASE), self._workspace, held.id, held.fence, lease)
            if done != _ONE_ROW:
                raise lost(held, await self._look(connection))
            return held

        return await self._ask(work)

    async def unlock(self, held: LockInfo) -> None:
        async def work(connection: asyncpg.Connection, again: bool) -> None:
            done = await connection.execute(self._sql(sql.RELEASE), self._workspace, held.id, held.fence)
            holder = None if done == _ONE_ROW else await self._look(connection)
            if done != _ONE_ROW and (holder is not None or not again):
                raise lost(held, holder)

        await self._ask(work)

    async def holder(self) -> LockInfo | None:
        async def work(connection: asyncpg.Connection, again: bool) -> LockInfo | None:
            return await self._if_there(self._look(connection))

        return await self._ask(work)

    async def break_lock(self, lock_id: str) -> None:
        async def work(connection: asyncpg.Connection, again: bool) -> None:
            async with connection.transaction():
                row = await self._hold(connection)
                if row["lock_id"] == lock_id:
                    await self._set_lock(connection, row["fence"], None)
                elif not again:
                    raise no_such_lock(self.location, self._holder(row["lock"]))

        await self._ask(work)

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries:
            return
        serial, fence, count = self._position
        position = count if (serial, fence) == (base.serial, held.fence) else 0
        encoder = Encoder()
        text = "\n".join(encode_entry(entry, encoder) for entry in entries)
        values = (self._workspace, held.id, held.fence, base.lineage, base.serial, position, text)

        async def work(connection: asyncpg.Connection, again: bool) -> None:
            if await connection.execute(self._sql(sql.APPEND), *values) == "INSERT 0 1":
                return
            async with connection.transaction():
                row = await self._held(connection, held)
                check_base(base.lineage, base.serial, _stored(row))
            raise lost(held, held)

        await self._ask(work)
        self._position = (base.serial, held.fence, position + 1)

    async def commit(self, state: State, *, held: LockInfo) -> None:
        content = encode_state(state).decode("ascii")
        values = (self._workspace, state.lineage, state.serial, content, KEPT_SNAPSHOTS)

        async def work(connection: asyncpg.Connection, again: bool) -> None:
            async with connection.transaction():
                stored = _stored(await self._held(connection, held))
                if again and stored == (state.lineage, state.serial):
                    return
                check_successor(state, stored)
                await connection.execute(self._sql(sql.REPLACE), *values)

        await self._ask(work)

    async def discard(self, *, held: LockInfo) -> None:
        async def work(connection: asyncpg.Connection, again: bool) -> None:
            async with connection.transaction():
                if _stored(await self._held(connection, held)) is not None:
                    await connection.execute(self._sql(sql.REPLACE), self._workspace, None, None, None, KEPT_SNAPSHOTS)

        await self._ask(work)

    async def history(self) -> Sequence[int]:
        async def work(connection: asyncpg.Connection, again: bool) -> list[asyncpg.Record] | None:
            return await self._if_there(connection.fetch(self._sql(sql.EARLIER), self._workspace))

        return [int(row["serial"]) for row in await self._ask(work) or ()]

    async def workspaces(self) -> tuple[str, ...]:
        """Those in this schema that have a state."""

        async def work(connection: asyncpg.Connection, again: bool) -> list[asyncpg.Record] | None:
            return await self._if_there(connection.fetch(self._sql(sql.WORKSPACES)))

        return tuple(str(row["workspace"]) for row in await self._ask(work) or ())

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_BROKEN):
                await connection.close(timeout=self._options.timeout)

    def _sql(self, statement: str) -> str:
        return statement.format(schema=f'"{self._options.schema_name}"')

    async def _if_there(self, asked: Awaitable[Result]) -> Result | None:
        """None before the first use."""
        try:
            return await asked
        except _NO_TABLES:
            return None

    async def _hold(self, connection: asyncpg.Connection) -> asyncpg.Record:
        """The workspace's row, ours alone until the transaction ends."""
        row = await connection.fetchrow(self._sql(sql.HOLD), self._workspace)
        if row is None:
            await connection.execute(self._sql(sql.ENTER), self._workspace)
            row = await connection.fetchrow(self._sql(sql.HOLD), self._workspace)
        assert row is not None
        return row

    async def _held(self, connection: asyncpg.Connection, held: LockInfo) -> asyncpg.Record:
        row = await self._hold(connection)
        self._check(row, held)
        return row

    def _check(self, row: asyncpg.Record, held: LockInfo) -> None:
        if (row["lock_id"], row["fence"]) != (held.id, held.fence):
            raise lost(held, self._holder(row["lock"]))

    async def _set_lock(self, connection: asyncpg.Connection, fence: int, held: LockInfo | None) -> None:
        text = None if held is None else encode_lock(held).decode()
        await connection.execute(self._sql(sql.SET_LOCK), self._workspace, fence, held and held.id, text)

    async def _look(self, connection: asyncpg.Connection) -> LockInfo | None:
        row = await connection.fetchrow(self._sql(sql.HOLDER), self._workspace)
        return None if row is None else self._holder(row["lock"])

    def _holder(self, text: str | None) -> LockInfo | None:
        try:
            return None if text is None else decode_lock(text.encode())
        except (ValueError, RecursionError) as exc:
            raise corrupt(self.location, str(exc)) from exc

    def _decoded(self, appended: Sequence[str]) -> tuple[Entry, ...]:
        decoder = Decoder()
        try:
            return tuple(decode_entry(line, decoder) for text in appended for line in text.splitlines())
        except ValueError as exc:
            raise corrupt(f"the journal of {self.location}", str(exc)) from exc

    async def _ask(self, work: Work[Result]) -> Result:
        """Do it, and once more on another connection when this one breaks."""
        async with self._one_at_a_time:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await self._clock.sleep(_PAUSE_SECONDS * 2**attempt)
                try:
                    return await self._attempt(work, again=attempt > 0)
                except _BROKEN as exc:
                    broken = exc
                    self._drop()
        raise unreachable(self.location, str(broken) or "no answer in time") from broken

    async def _attempt(self, work: Work[Result], *, again: bool) -> Result:
        try:
            connection = await self._connected()
            # Whoever cancels a statement that hangs waits for the server again; a connection that is gone ends it.
            too_long = asyncio.get_running_loop().call_later(self._options.timeout, connection.terminate)
            try:
                return await work(connection, again)
            except _NO_TABLES:
                await self._create(connection)
                return await work(connection, again)
            finally:
                too_long.cancel()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError) as exc:
            raise refused(self.location, str(exc), "check PGUSER, PGPASSWORD and what that user may do") from exc
        except asyncpg.InvalidCatalogNameError as exc:
            raise refused(self.location, str(exc), "create the database, or name another") from exc

    async def _create(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute(sql.ONE_CREATES, self._options.schema_name)
            await connection.execute(self._sql(sql.CREATE))

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            options, environ = self._options, self._environ
            self._connection = await asyncpg.connect(
                host=options.host or environ.get("PGHOST"),
                port=options.port or (int(environ["PGPORT"]) if environ.get("PGPORT", "").isdigit() else None),
                database=options.database or environ.get("PGDATABASE"),
                user=options.user or environ.get("PGUSER"),
                password=environ.get("PGPASSWORD"),
                ssl=options.sslmode,
                timeout=options.timeout,
                # A pooler may hand the next transaction to a server that has prepared nothing.
                statement_cache_size=0,
            )
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _stored(row: asyncpg.Record) -> tuple[str, int] | None:
    return None if row["serial"] is None else (row["lineage"], row["serial"])


def _address(options: Options, environ: Mapping[str, str]) -> str:
    host = options.host or environ.get("PGHOST") or "localhost"
    port = options.port or environ.get("PGPORT")
    return f"postgres://{host}{f':{port}' if port else ''}/{options.database or environ.get('PGDATABASE', '')}"


def _open(options: BaseModel, opening: Opening) -> PostgresBackend:
    assert isinstance(options, Options)
    return PostgresBackend(options, opening)


async def _workspaces(options: BaseModel, opening: Opening) -> tuple[str, ...]:
    backend = _open(options, opening)
    try:
        return await backend.workspaces()
    finally:
        await backend.close()


def _from_url(url: SplitResult) -> Mapping[str, str]:
    database, _, schema = unquote(url.path).strip("/").partition("/")
    said = {"host": url.hostname, "port": url.port, "user": url.username, "database": database, "schema": schema}
    return {**{name: str(value) for name, value in said.items() if value}, **query_in(url)}


def _to_url(options: BaseModel) -> str:
    assert isinstance(options, Options)
    user = f"{quote(options.user)}@" if options.user else ""
    port = f":{options.port}" if options.port else ""
    path = f"{quote(options.database or '')}/{options.schema_name}"
    return (
        f"postgres://{user}{options.host or ''}{port}/{path}"
        f"{query_of(options, 'host', 'port', 'user', 'database', 'schema_name')}"
    )


BACKEND = BackendType("postgres", Options, _open, _workspaces, _from_url, _to_url)
