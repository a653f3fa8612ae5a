"""Lium's own API: hosts are rented, and what runs there is a pod. https://docs.lium.io

What a pod is at a time is in `lium_life`, the market in `lium_market`, companion resources are in `lium_companions`,
the rentals of the other API in `lium_rentals`. Both APIs rent the same hosts.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import lium_rentals as rentals
from gpuplan.emulators.http import Json, Refusal, Request, Response, Routes
from gpuplan.emulators.lium_answers import Misformed, Refused, answer, error, firewall, moment, text, texts, whole
from gpuplan.emulators.lium_companions import COMPANIONS, VOLUME, drop_templates, ran, template_of
from gpuplan.emulators.lium_life import end, is_pod, named, restart, show, start, status
from gpuplan.emulators.lium_market import MARKET, NODE, Host, Market, hosts
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {
    "hosts": 240,
    "place_seconds": 18,
    "ssh_seconds": 40,
    "reboot_seconds": 15,
    "failed_seconds": 180,
    "balance": 100.0,
    "unpullable": "no-such-image",
    "breaks": "",
    "detail": True,
    "short_by": 0,
    "idempotent": True,
    "busy_seconds": 0,
    "forgets": False,
    **rentals.KNOBS,
}
"""`breaks`: the creation of a pod with this text in its image fails, and its row vanishes after `failed_seconds`.
`detail`: there is a call for a single pod. A pod gets `short_by` GPUs less than asked for. A rent whose key comes again
within `busy_seconds` is still under way; with `forgets` nobody knows what became of it."""
GETS_PER_MINUTE = 60
MEMORY_SECONDS = 23 * 3600
"""For so long the key of a rent is remembered."""
ROUTES = Routes()
Ids = Mapping[str, str]


@ROUTES.on("POST", "/api/executors/{id}/rent")
def rent(site: Site, request: Request, ids: Ids) -> Response:
    if request.account.startswith("read-"):
        raise Refused(403, "forbidden", "API key 'ci' does not have the 'rent' scope")
    if (replayed := _replay(site, request)) is not None:
        return replayed
    body = request.json()
    text(body, "pod_name", required=True)
    texts(body, "user_public_key")
    template = _template(site, request, body)
    hours = whole(body, "termination_hours", 1, 720)
    host, gpus = _place(site, ids["id"], whole(body, "gpu_count", 1, 8))
    _check_volume(site, request, body)
    hourly = round(Market(site).price(host) * gpus, 4)
    balance = site.seconds("balance")
    if balance < hourly / 4:
        message = f"Insufficient balance: renting requires at least ${hourly / 4:.2f}, balance is ${balance:.2f}"
        raise Refused(403, "insufficient_balance", message)
    if not site.take(host.model.gpu, host.country):
        raise Refused(409, "executor_unavailable", "Executor is not available for rent")
    pod = start(site, request, body, host, gpus, hourly, template)
    if hours:
        pod.hidden["ends_at"] = encode_time(site.now + timedelta(hours=hours))
    return Response(200, {"success": True, "pod_id": pod.id})


@ROUTES.on("GET", "/api/pods")
def list_pods(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, [show(site, pod) for pod in site.listed(NODE, request.account) if is_pod(pod)])


@ROUTES.on("GET", "/api/pods/{id}")
def get_pod(site: Site, request: Request, ids: Ids) -> Response:
    if not site.knob("detail"):
        return Response(404, {"detail": "Not Found"})
    return Response(200, show(site, _pod(site, request, ids)))


@ROUTES.on("DELETE", "/api/pods/{id}")
def delete_pod(site: Site, request: Request, ids: Ids) -> Response:
    if request.content:
        raise Refusal(firewall())
    end(site, _pod(site, request, ids))
    return Response(200, {"success": True})


@ROUTES.on("POST", "/api/pods/{id}/reboot")
def reboot(site: Site, request: Request, ids: Ids) -> Response:
    pod, body = _pod(site, request, ids), request.json()
    _check_volume(site, request, body)
    pod.hidden["volume"] = text(body, "volume_id") or pod.hidden["volume"]
    restart(site, pod, "rebooted")
    return Response(200, {"success": True})


@ROUTES.on("PUT", "/api/pods/{id}/switch-template")
def switch_template(site: Site, request: Request, ids: Ids) -> Response:
    pod = _pod(site, request, ids)
    template = template_of(site, request.account, text(request.json(), "template_id", required=True))
    if status(site, pod) not in ("RUNNING", "REBOOT_PENDING"):
        raise Refused(409, "pod_not_running", "Pod is not running")
    pod.body["template"] = named(template)
    # Ports stay what they were when the host was rented.
    pod.hidden["templates"] = [*ran(pod), template["id"]]
    restart(site, pod, "template switched")
    return Response(200, show(site, pod))


@ROUTES.on("POST", "/api/pods/{id}/schedule-removal")
def schedule_removal(site: Site, request: Request, ids: Ids) -> Response:
    pod, wanted = _pod(site, request, ids), text(request.json(), "removal_scheduled_at", required=True)
    try:
        ends_at = decode_time(wanted)
    except ValueError as exc:
        raise Misformed("removal_scheduled_at", "Input should be a valid datetime") from exc
    if ends_at <= site.now:
        raise Refused(400, "bad_request", "removal_scheduled_at must be in the future")
    pod.hidden["ends_at"] = encode_time(ends_at)
    return Response(200, {"success": True, "removal_scheduled_at": moment(ends_at)})


@ROUTES.on("DELETE", "/api/pods/{id}/schedule-removal")
def cancel_removal(site: Site, request: Request, ids: Ids) -> Response:
    _pod(site, request, ids).hidden.pop("ends_at", None)
    return Response(200, {"success": True})


@ROUTES.on("GET", "/api/pods/{id}/logs")
def logs(site: Site, request: Request, ids: Ids) -> Response:
    """What PID 1 of the container has printed; there is none before it is deployed."""
    pod = _pod(site, request, ids)
    if status(site, pod) in ("PENDING", "CREATION_FAILED"):
        raise Refused(404, "not_found", "Container is not deployed yet")
    lines = [f"container {pod.id[:8]} started", f"gpus: {pod.hidden['gpus']}", "sshd listening on 22", "ready"]
    tail = request.one("tail") or "100"
    if not tail.isdigit():
        raise Misformed("tail", "Input should be a valid integer")
    kept = lines[-int(tail) :] if int(tail) else []
    return Response(200, "".join(f"{line}\n" for line in kept))


@ROUTES.on("GET", "/api/pods/{id}/events")
def events(site: Site, request: Request, ids: Ids) -> Response:
    """Of a pod that is gone too."""
    known = {**site.world.gone[site.type.name, NODE], **site.world.living[site.type.name, NODE]}
    pod = known.get(ids["id"])
    if pod is None or pod.account != request.account:
        raise Refused(404, "not_found", "Pod not found")
    rows: list[JsonValue] = [{"event": "created", "created_at": moment(pod.created_at)}]
    if "trouble" in pod.hidden:
        rows.append({"event": "create_failed", "error": pod.hidden["trouble"], "created_at": moment(pod.created_at)})
    return Response(200, rows)


def _replay(site: Site, request: Request) -> Response | None:
    """The answer to a rent that was asked for before, by its key; None for a fresh one."""
    key = request.headers.get("idempotency-key", "")
    if not key or not site.knob("idempotent"):
        return None
    known = (*site.things(NODE, request.account), *site.world.gone[site.type.name, NODE].values())
    for pod in known:
        if (pod.hidden.get("key"), pod.account) != (key, request.account) or pod.age(site.now) > MEMORY_SECONDS:
            continue
        if site.knob("forgets"):
            raise Refused(409, "idempotency_outcome_unknown", "The outcome of the first request is unknown")
        if pod.age(site.now) < site.seconds("busy_seconds"):
            raise Refused(409, "idempotency_in_progress", "A request with this key is in progress")
        if pod.hidden["body"] != request.content.decode():
            raise Refused(422, "idempotency_key_reused", "This key came with another body")
        return Response(200, {"success": True, "pod_id": pod.id}, {"Idempotent-Replayed": "true"})
    return None


def _template(site: Site, request: Request, body: Json) -> Json:
    if (body.get("template_id") is None) == (body.get("dockerfile_content") is None):
        raise Misformed("template_id", "Provide exactly one of template_id and dockerfile_content")
    if body.get("template_id") is None:
        return {"id": None, "name": "dockerfile", "docker_image": "", "docker_image_tag": "", "internal_ports": [22]}
    template = template_of(site, request.account, text(body, "template_id"))
    if template["status"] == "VERIFY_FAILED":
        raise Refused(400, "bad_request", "Template verification failed")
    return template


def _place(site: Site, id: str, asked: int | None) -> tuple[Host, int]:
    """The host, and how many of its GPUs. Raises Refused."""
    host, market = hosts(site.count("hosts")).get(id), Market(site)
    if host is None:
        raise Refused(404, "executor_not_found", "Executor not found")
    free = market.free(host)
    if not free:
        raise Refused(409, "executor_unavailable", "Executor is already rented")
    gpus = asked or host.gpus
    if host.least is None and gpus != host.gpus:
        raise Refused(400, "bad_request", f"gpu_count must be {host.gpus}: this executor cannot be split")
    if gpus > free:
        raise Refused(400, "bad_request", f"gpu_count {gpus} is not available, {free} are free")
    return host, gpus


def _check_volume(site: Site, request: Request, body: Json) -> None:
    volume = text(body, "volume_id")
    if volume and site.thing(VOLUME, volume, request.account) is None:
        raise Refused(404, "volume_not_found", "Volume not found")


def _pod(site: Site, request: Request, ids: Ids) -> Thing:
    pod = site.thing(NODE, ids["id"], request.account)
    if pod is None or not is_pod(pod):
        raise Refused(404, "pod_not_found", "Pod not found")
    return pod


def _gate(site: Site, request: Request) -> None:
    _settle(site, _key(request))
    if request.method == "GET" and site.world.knobs[site.type.name].get("rate_limited") is not False:
        _count_look(site, _key(request))


def _settle(site: Site, account: str) -> None:
    """What happens by itself: ends that were scheduled, rows that vanish, templates that nobody uses any more."""
    for thing in site.things(NODE, account):
        if _is_over(site, thing) if is_pod(thing) else rentals.is_forgotten(site, thing):
            end(site, thing)
    drop_templates(site, account)


def _is_over(site: Site, pod: Thing) -> bool:
    ends, lifetime = pod.hidden.get("ends_at"), site.seconds("place_seconds") + site.seconds("failed_seconds")
    if ends is not None and decode_time(str(ends)) <= site.now:
        return True
    return "trouble" in pod.hidden and pod.age(site.now) > lifetime


def _count_look(site: Site, account: str) -> None:
    """How often one may look. Raises Refusal."""
    recent, now = site.world.recent[site.type.name, f"{account} GET"], site.world.time.monotonic()
    recent[:] = [since for since in recent if since > now - 60]
    if len(recent) >= GETS_PER_MINUTE:
        limited, wait = answer(429, "rate_limited", "Too many requests"), recent[0] + 60 - now
        raise Refusal(Response(429, limited.body, {**limited.headers, "Retry-After": f"{wait:.0f}"}))
    recent.append(now)


def _key(request: Request) -> str:
    return request.headers.get("x-api-key", "") or request.bearer


def _status(site: Site, thing: Thing) -> str:
    if thing.kind != NODE:
        return "active"
    return status(site, thing) if is_pod(thing) else rentals.status(site, thing)


def _set(pods: str, others: str) -> Callable[[Site, Thing], None]:
    def change(site: Site, thing: Thing) -> None:
        thing.body["status"] = pods if is_pod(thing) else others

    return change


EMULATOR = EmulatorType(
    name="lium",
    title="Lium Backend API, and the rentals beside it",
    routes=ROUTES.merged(COMPANIONS, MARKET, rentals.RENTALS_ROUTES),
    error=error,
    key=_key,
    knobs=KNOBS,
    status=_status,
    is_up=lambda site, thing: _status(site, thing) in ("RUNNING", "active"),
    stop=_set("STOPPED", "ended"),
    break_down=_set("FAILED", "failed"),
    preempt=end,
    gate=_gate,
)
