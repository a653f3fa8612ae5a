"""What is asked of Nosana: the bodies of requests. Pure; others send them."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.kinds import NodeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue
from gpuplan.net.marks import to_name, to_text
from gpuplan.providers.nosana_wire import Market

Body = dict[str, JsonValue]

OP = "node"
NAME_LENGTH = 80
LEAST_MINUTES = 60
"""With less than that a deployment starts, and none of its jobs is ever listed."""
MARK_VARIABLE = "GPUPLAN_MARK"
RESTARTS = {"always": "always", "on-failure": "on-failure", "never": "no"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unfit(ValueError):
    """A want that Nosana has no way to carry out; the message says why."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Nosana."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lease_hours: float | None = Field(None, ge=1, description="as in the provider block, for this cluster")
    cuda: tuple[str, ...] = Field(
        (), description="versions of CUDA that the container works with; advice to the market"
    )
    min_vram_gb: int | None = Field(None, ge=1, description="memory of the GPU; advice to the market")
    work_dir: str | None = Field(None, description="folder of the container to start in")
    entrypoint: str | tuple[str, ...] | None = Field(None, description="instead of the image's own")
    health_path: str | None = Field(None, pattern="^/", description="path that answers 200 to a GET once all is well")
    public: bool = Field(False, description="let everybody read the definition, env included")


def options_of(asked: NodeAttrs) -> NodeOptions:
    return NodeOptions.model_validate(asked.options)


def check(asked: NodeAttrs) -> None:
    """Raises Unfit for what can be told before anything is sent."""
    if not asked.image:
        raise Unfit("it needs an `image`")
    if strange := [str(port) for port in asked.ports if port.protocol == "udp"]:
        raise Unfit(f"Nosana leads HTTP to a node and nothing else, not {', '.join(strange)}")
    if len(asked.ports) > 1:
        raise Unfit("all ports of a node share one address, and only one of them would answer: name one")
    if options_of(asked).health_path and not asked.ports:
        raise Unfit("`health_path` needs a port to ask at")
    if bad := [name for name in asked.env if not _VARIABLE.fullmatch(name)]:
        raise Unfit(f"`{bad[0]}` is no name of a variable")


def to_definition(asked: NodeAttrs, mark: str = "") -> Body:
    """The job that a node is. `mark` goes along as a variable where there is no name to carry it. Raises Unfit."""
    check(asked)
    options = options_of(asked)
    requirements: Body = {}
    if options.min_vram_gb:
        requirements["required_vram"] = options.min_vram_gb
    if options.cuda:
        requirements["required_cuda"] = list(options.cuda)
    meta: Body = {"trigger": "api", **({"system_requirements": requirements} if requirements else {})}
    env: Body = {name: plain(text) for name, text in asked.env.items()}
    args: dict[str, JsonValue] = {
        "image": asked.image,
        "gpu": asked.gpu is not None or asked.instance_type is not None,
        "cmd": asked.command if isinstance(asked.command, str) or asked.command is None else list(asked.command),
        "env": {**env, MARK_VARIABLE: mark} if mark else env,
        "work_dir": options.work_dir,
        "entrypoint": options.entrypoint if not isinstance(options.entrypoint, tuple) else list(options.entrypoint),
        "restart_policy": RESTARTS[asked.restart] if asked.restart else None,
        # Always a list: of a lone object there would be no endpoint.
        "expose": [_exposed(port.number, options.health_path) for port in asked.ports] or None,
    }
    op: Body = {"type": "container/run", "id": OP, "args": {name: arg for name, arg in args.items() if arg is not None}}
    return {"version": "0.1", "type": "container", "meta": meta, "ops": [op]}


def to_deployment(want: Want, mark: Mark, *, market: str, minutes: int, lease_hours: float | None) -> Body:
    """Raises Unfit."""
    asked = NodeAttrs.of(want.attrs)
    hours = options_of(asked).lease_hours or lease_hours
    return {
        "name": to_name(want.name, mark, limit=NAME_LENGTH),
        "market": market,
        "replicas": 1,
        "timeout": max(LEAST_MINUTES, round(hours * 60)) if hours else minutes,
        "strategy": "SIMPLE" if hours else "SIMPLE-EXTEND",
        "confidential": not options_of(asked).public,
        "job_definition": to_definition(asked),
    }


def to_launch(want: Want, mark: Mark, *, market: str, credential: str) -> Body:
    """Raises Unfit."""
    asked = NodeAttrs.of(want.attrs)
    if options_of(asked).lease_hours:
        raise Unfit("a sidecar extends what it launches by itself: `lease_hours` is not for it")
    hidden = not options_of(asked).public
    return {
        "jobDefinition": to_definition(asked, to_text(want.name, mark)),
        "marketAddress": market,
        # Its own client sends the second word, and it reads the first.
        "isConfidential": hidden,
        "confidential": hidden,
        "credentialName": credential,
        "resources_allocated": {"gpu_allocated": asked.gpu.count if asked.gpu else 1},
    }


def best_market(asked: NodeAttrs, markets: Iterable[Market]) -> Market | None:
    """The cheapest that fits; None where there is none."""
    fitting = [market for market in markets if _fits(asked, market)]
    return min(fitting, key=lambda market: (market.price is None, market.price or 0, market.address), default=None)


def seconds_until(until: datetime, ends_at: datetime) -> int:
    """By how much a job has to be extended."""
    return max(0, round((until - ends_at).total_seconds()))


def last(lines: Sequence[str], tail: int | None) -> Sequence[str]:
    return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]


def _fits(asked: NodeAttrs, market: Market) -> bool:
    if asked.instance_type and asked.instance_type not in (market.address, market.slug):
        return False
    gpu = asked.gpu
    return gpu is None or (market.gpus == gpu.count and gpu_satisfies(market.gpu, gpu.name))


def _exposed(port: int, health_path: str | None) -> JsonValue:
    if health_path is None:
        return port
    check: Body = {"type": "http", "path": health_path, "method": "GET", "expected_status": 200, "continuous": False}
    return {"port": port, "health_checks": [check]}
