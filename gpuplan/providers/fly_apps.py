"""The app of a provider block: every machine and volume at Fly.io is in one. Called by `fly`.

An app that the block names is the user's: nothing of it is touched. Otherwise gpuplan makes one for the account, gives
it an address once something in it is exposed, and removes it with the last thing in it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, Failure, InvalidRequest, NotFound, Refused, Unavailable
from gpuplan.net.api import Api
from gpuplan.providers.fly_config import Body
from gpuplan.providers.fly_guests import Unfit
from gpuplan.providers.fly_tables import ADDRESSES, APP, APPS, MACHINES, TOKEN, VOLUMES, Options
from gpuplan.providers.fly_wire import Address, App, Machine, Token, Volume

T = TypeVar("T")

OWN = "personal"
YOUNG_SECONDS = 10
"""For so long an app that was just made may not be known everywhere."""


class Apps:
    """What is known of apps while an account is open."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._made_at: dict[str, float] = {}
        self._there: set[str] = set()
        self._exposed: set[str] = set()
        self._present: set[str] = set()
        """Tokens and ids of what this run made or may have made, and has not deleted."""
        self._may_be_empty = False

    async def token(self) -> Token:
        """Who the token speaks for. Raises InvalidRequest where it speaks for several, and none is chosen."""
        to, org = "look at the account", self._options.org
        tokens = await self._api.call("GET", TOKEN, answer=tuple[Token, ...], at="tokens", to=to)
        slugs = {token.org_slug: token for token in tokens}
        if org and org not in slugs:
            message = f"the token is for {', '.join(sorted(slugs))}, and not for `{org}`"
            raise AuthFailed(Failure(self._api.provider, to, message))
        if not org and len(slugs) != 1:
            message = f"the token is for several organisations: {', '.join(sorted(slugs))}"
            raise InvalidRequest(Failure(self._api.provider, to, message, hint="say which one with `org`"))
        return slugs[org] if org else tokens[0]

    async def organization(self) -> str:
        return (await self._api.remembered("token", self.token)).org_slug

    def account_id(self, token: Token) -> str:
        """Everyone's own organisation goes by the same slug: there it is the user, where the token names one, and else
        the token itself."""
        if token.org_slug != OWN:
            return self._api.account_id(token.org_slug)
        return self._api.account_id(token.user and f"{OWN} {token.user}")

    async def name(self) -> str:
        """The app of this block; it need not be there."""
        return self._options.app or f"gpuplan-{self.account_id(await self._api.remembered('token', self.token))}"

    async def ensure(self, to: str) -> str:
        """The app of this block, made if it is ours to make."""
        app = await self.name()
        if not self._options.app:
            async with self._api.alone("app"):
                if app not in self._there and await self._api.find("GET", APP, app, answer=App, to=to) is None:
                    await self._make(app, to)
                self._there.add(app)
        return app

    async def expose(self, app: str, to: str) -> None:
        """Give the app an address, if it is ours to give."""
        if self._options.app or app != await self.name():
            return
        async with self._api.alone("address"):
            if app not in self._exposed and not await self._has_address(app, to):
                # A second one would be paid for, too: whether a lost one was given, the next attempt sees.
                body: Body = {"type": self._options.public_ip}
                await self._api.call("POST", ADDRESSES, app, json=body, to=to)
            self._exposed.add(app)

    @contextmanager
    def known_by_then(self, app: str) -> Iterator[None]:
        """The first calls after an app was made may be told that there is none: that is no answer."""
        try:
            yield
        except (NotFound, AuthFailed) as error:
            if self.is_young(app):
                raise Unavailable(error.failure) from error
            raise

    @contextmanager
    def present(self, app: str) -> Iterator[None]:
        """For what is made in an app: one of ours that somebody removed meanwhile is made once more."""
        try:
            with self.known_by_then(app):
                yield
        except NotFound as error:
            if app not in self._there:
                raise
            self._there.discard(app)
            self._exposed.discard(app)
            raise Conflict(error.failure) from error

    def is_young(self, app: str) -> bool:
        made_at = self._made_at.get(app)
        return made_at is not None and self._api.clock.monotonic() - made_at < YOUNG_SECONDS

    @contextmanager
    def gaining(self, token: str) -> Iterator[None]:
        """Something is made. Unless it was refused it is there, whatever a listing says so soon."""
        self._present.add(token)
        try:
            yield
        except (Refused, Unfit):
            self._present.discard(token)
            raise

    def gained(self, token: str, remote_id: str) -> None:
        self._present.discard(token)
        self._present.add(remote_id)

    def loses(self, remote_id: str) -> None:
        """Something is deleted; it may be the last."""
        self._present.discard(remote_id)
        self._may_be_empty = True

    async def machines(self, app: str) -> Sequence[Machine]:
        """Those of an app, gone ones too; none where there is no such app."""
        pages = self._api.pages(MACHINES, app, items="", answer=Machine, to="list nodes")
        return [machine async for machine in self._of_app(app, pages)]

    async def volumes(self, app: str) -> Sequence[Volume]:
        pages = self._api.pages(VOLUMES, app, items="", answer=Volume, to="list volumes")
        return [volume async for volume in self._of_app(app, pages)]

    async def things(self, kind: Kind, app: str) -> Sequence[Machine | Volume]:
        return await (self.volumes(app) if kind is Kind.VOLUME else self.machines(app))

    async def tidy(self) -> None:
        """Remove the app that we made, if nothing is left in it."""
        if self._options.app or self._present or not self._may_be_empty:
            return
        app = await self.name()
        left: list[Machine | Volume] = [*await self.machines(app), *await self.volumes(app)]
        if all(thing.is_gone for thing in left):
            # Without force: what somebody creates there right now keeps it.
            await self._api.remove(APP, app, to="remove the empty app")

    async def _of_app(self, app: str, items: AsyncIterator[T]) -> AsyncIterator[T]:
        try:
            with self.known_by_then(app):
                async for item in items:
                    yield item
        except NotFound:
            return

    async def _make(self, app: str, to: str) -> None:
        body: Body = {"name": app, "org_slug": await self.organization()}
        try:
            # Names are given once: asked twice, there is one.
            await self._api.call("POST", APPS, json=body, key=app, to=to)
        except Conflict:
            # Another run of ours made it meanwhile, or it is another organisation's: then this is refused.
            await self._api.call("GET", APP, app, to=to)
        self._made_at[app] = self._api.clock.monotonic()

    async def _has_address(self, app: str, to: str) -> bool:
        with self.present(app):
            given = await self._api.call("GET", ADDRESSES, app, answer=tuple[Address, ...], at="ips", to=to)
        return any(address.is_of(self._options.public_ip) for address in given)
