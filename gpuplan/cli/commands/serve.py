"""`gpuplan serve`: answer over HTTP what the accounts rent, what the state has, and whether it drifted."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuplan.cli.commands.emulate import port
from gpuplan.cli.parser import Parser, duration, usage_error

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    import uvicorn

    from gpuplan.cli.call import Call

_PORT = 8910
_LOOPBACK = "127.0.0.1"
_LOOK_EVERY_SECONDS = 60.0
TOKEN = "GPUPLAN_SERVE_TOKEN"  # the name of the variable, not a token


def arguments(parser: Parser) -> None:
    parser.flag("--host", metavar="HOST", default=_LOOPBACK, help=f"default {_LOOPBACK}; others need {TOKEN}")
    parser.flag("--port", metavar="PORT", type=port, default=_PORT, help=f"default {_PORT}; 0 takes a free one")
    parser.flag(
        "--every",
        metavar="TIME",
        type=duration,
        default=_LOOK_EVERY_SECONDS,
        help="how old a look at the providers may be before there is another; default 1m",
    )


def run(call: "Call") -> int:
    host, token = call.args.host, call.environ.get(TOKEN, "")
    if not token and not _is_loopback(host):
        raise usage_error(
            f"`{host}` can be reached by others, and nobody would be asked who they are",
            hint=f"set a token, to be sent as `Authorization: Bearer ...`, in the variable {TOKEN}",
        )
    call.await_(_serve(call, _listening(host, call.args.port), token))
    return 0


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> "socket.socket":
    import socket

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise usage_error(f"port {port} of `{host}` cannot be had: {reason}", hint="take another one") from exc


async def _serve(call: "Call", listening: "socket.socket", token: str) -> None:
    """Until SIGINT or SIGTERM."""
    import asyncio
    import signal

    server = _server(call, token)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, server)
    host, taken = listening.getsockname()[:2]
    call.console.out(f"Serving `{call.project.workspace}` at http://{f'[{host}]' if ':' in host else host}:{taken}")
    await server.serve(sockets=[listening])


def _end(server: "uvicorn.Server") -> None:
    server.should_exit = True


def _server(call: "Call", token: str) -> "uvicorn.Server":
    try:
        import uvicorn

        from gpuplan.cli.service import service
    except ModuleNotFoundError as exc:
        raise usage_error(
            f"`gpuplan serve` needs `{exc.name}`, which is not installed",
            hint="install the extra",
            commands=("pip install 'gpuplan[serve]'",),
        ) from exc

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> "Iterator[None]":
            # Its own handlers would raise the signal again at the end, as if the command had been killed.
            yield

    application = service(call.project, call.clock, look_every_seconds=call.args.every, token=token)
    return Server(uvicorn.Config(application, lifespan="off", log_level="critical", access_log=False))
