"""What `gpuplan serve` answers over HTTP: offers, accounts, state, drift and metrics of one project. It only reads.

Called by `commands/serve`. Drift is looked for when somebody asks and the last look is too old, once for all who wait.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gpuplan.cli.render.cost import cost_json
from gpuplan.cli.render.diagnostic import diagnostics_json
from gpuplan.cli.render.drift import DriftReport
from gpuplan.cli.render.drift_reports import drift_json
from gpuplan.cli.render.json import json_text
from gpuplan.cli.render.metrics import Readings, metrics_text
from gpuplan.cli.render.offers import offer_documents
from gpuplan.cli.render.providers import accounts_documents
from gpuplan.cli.render.state import state_json
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError, InternalError, ProviderError, SpecError
from gpuplan.core.ports import Clock
from gpuplan.core.values import JsonValue
from gpuplan.workflow.ledger import look_at_state, unborn
from gpuplan.workflow.looking import described_accounts
from gpuplan.workflow.market import Wanted, price_board
from gpuplan.workflow.planning import Surveyed, find_project_drift
from gpuplan.workflow.project import Project
from gpuplan.workflow.spending import spending

Answering = Callable[[Request], Awaitable[Response]]


def service(project: Project, clock: Clock, *, look_every_seconds: float, token: str) -> Starlette:
    """The application. With a `token`, whoever asks must bring it; only `/healthz` is open."""
    answers = _Answers(project, clock, _Outlook(project, clock, look_every_seconds))
    routes: dict[str, Answering] = {
        "/provider/resources": answers.resources,
        "/inventory/providers": answers.inventory,
        "/state": answers.state,
        "/drift": answers.drift,
        "/cost": answers.cost,
        "/metrics": answers.metrics,
    }
    return Starlette(
        routes=[
            Route("/healthz", _alive, methods=["GET"]),
            *(Route(path, _reporting(answer), methods=["GET"]) for path, answer in routes.items()),
        ],
        middleware=[Middleware(_Guard, token=token)] if token else [],
    )


class _Guard:
    """Lets in who brings the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "http" and scope["path"] != "/healthz" and not hmac.compare_digest(given, self._expected):
            found = Diagnostic("unauthorized", "the request brings no token, or another one")
            refusal = _problem(HTTPStatus.UNAUTHORIZED, [found], {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


@dataclass(slots=True)
class _Outlook:
    """The last look at reality."""

    project: Project
    clock: Clock
    every_seconds: float
    seen: Surveyed | None = None
    seen_at: datetime | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> Surveyed:
        async with self._looking:
            now = self.clock.now()
            age = None if self.seen_at is None else (now - self.seen_at).total_seconds()
            if self.seen is None or age is None or age >= self.every_seconds:
                self.seen = await find_project_drift(self.project, clock=self.clock, emit=lambda event: None)
                self.seen_at = now
            return self.seen


@dataclass(frozen=True, slots=True)
class _Answers:
    project: Project
    clock: Clock
    outlook: _Outlook

    async def resources(self, request: Request) -> Response:
        """What can be rented now. `provider` names an account of the spec, `gpu` and `region` narrow it down."""
        asked = request.query_params
        account = asked.get("provider", "")
        wanted = Wanted(gpu=asked.get("gpu", ""), region=asked.get("region", ""), account=account)
        board = await price_board(self.project, wanted, "price", clock=self.clock)
        silent = [found for error in board.silent.values() for found in error.diagnostics]
        return _json(
            {
                "provider": account or None,
                "resources": offer_documents(board.offers, self.clock.now(), board.remembered),
                "problems": diagnostics_json(silent, board.configuration.locator),
            }
        )

    async def inventory(self, request: Request) -> Response:
        return _json({"providers": accounts_documents(described_accounts(self.project))})

    async def state(self, request: Request) -> Response:
        return _json(state_json(await look_at_state(self.project, self.clock) or unborn("")))

    async def drift(self, request: Request) -> Response:
        seen = await self.outlook.look()
        report = DriftReport(
            seen.drift,
            addresses=tuple(seen.state.instances),
            silenced=seen.silenced,
            locator=seen.configuration.locator,
            folder=str(self.project.folder),
        )
        return Response(drift_json(report), media_type="application/json")

    async def cost(self, request: Request) -> Response:
        state = await look_at_state(self.project, self.clock) or unborn("")
        return Response(cost_json(spending(state, self.clock.now())), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """What is recorded is told in any weather; a look that failed is a metric of its own."""
        try:
            seen = await self.outlook.look()
        except GpuplanError:
            seen = None
        state = seen.state if seen is not None else await look_at_state(self.project, self.clock) or unborn("")
        drift = None if seen is None else seen.drift
        readings = Readings(state, drift, spending(state, self.clock.now()), self.outlook.seen_at)
        return Response(metrics_text(readings), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _alive(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _reporting(answer: Answering) -> Answering:
    """Errors of ours as JSON, worded as on the command line."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except SpecError as error:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.diagnostics)
        except ProviderError as error:
            return _problem(HTTPStatus.BAD_GATEWAY, error.diagnostics)
        except GpuplanError as error:
            return _problem(HTTPStatus.BAD_REQUEST, error.diagnostics)
        except Exception as exc:  # whatever is not ours to foresee must not end the service
            mistake = InternalError(f"`{request.url.path}` ended in a way that gpuplan does not know: {exc!r}")
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, mistake.diagnostics)

    return answered


def _problem(status: HTTPStatus, found: Sequence[Diagnostic], headers: dict[str, str] | None = None) -> Response:
    body = json_text({"diagnostics": diagnostics_json(found, None)})
    return Response(body, status, headers, media_type="application/json")


def _json(document: JsonValue) -> Response:
    return Response(json_text(document), media_type="application/json")
