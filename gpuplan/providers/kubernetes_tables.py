"""What gpuplan knows of Kubernetes in tables: what errors mean, what can be done, how the API is spoken to."""

from dataclasses import replace

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NotFound, ProtocolMismatch, QuotaExceeded
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing
from gpuplan.net.auth import Bearer
from gpuplan.net.profile import Credential, Cursor, Host, HttpProfile, Rule
from gpuplan.providers.kubernetes_options import Options
from gpuplan.providers.kubernetes_pods import WORKSPACE

PAGE_SIZE = 500
RULES = (
    # The schema is wrong, though the server calls it its own fault.
    Rule(InvalidRequest, status=500, message="failed to create typed patch object"),
    Rule(
        InvalidRequest,
        status=409,
        message="^Apply failed with",
        hint="`force: true` under `options` takes these fields over; `ignore_changes` leaves them to the other",
    ),
    Rule(QuotaExceeded, status=403, message="exceeded quota"),
    Rule(Conflict, status=403, message="because it is being terminated"),
    Rule(Conflict, status=(400, 500), message="does not have a host assigned|container not found|is waiting to start"),
    Rule(InvalidRequest, status=404, message='^namespaces "', hint="make the namespace, or name another in the block"),
    # A 404 that is not the API server's is a wrong address: nothing is absent for that.
    Rule(NotFound, status=404, code="NotFound"),
    Rule(ProtocolMismatch, status=404),
)
PROFILE = HttpProfile(
    hosts={"": Host("https://kubernetes.default.svc")},
    auth=Bearer(),
    credentials={"key": Credential(env=("KUBERNETES_TOKEN",), get_one_at="`kubectl create token`")},
    rules=RULES,
    error_code=("reason",),
    error_message=("message",),
    pages=Cursor(send="continue", at="metadata.continue", size="limit", page_size=PAGE_SIZE, expires=True),
    request_id=("audit-id",),
)
RESTARTING = (
    *("gpu", "cpu", "memory_gb", "disk_gb", "region", "zone", "instance_type", "image", "command", "env", "ports"),
    *("volumes", "spot", "shm_gb", "labels", "options", "setup"),
)
_CAPABILITIES = Capabilities(
    kind=ProviderKind.ON_PREM,
    kinds={
        Kind.GROUP: KindCapabilities(
            {
                "nodes": Mutability.IN_PLACE,
                **dict.fromkeys(RESTARTING, Mutability.RESTARTS),
            },
            required=frozenset({"image"}),
            mark=MarkIn.LABEL,
            idempotency=Idempotency.KEY,
            unique_names=True,
        ),
        Kind.VOLUME: KindCapabilities(
            {"size_gb": Mutability.GROW_ONLY, "type": Mutability.REPLACE, "options": Mutability.REPLACE},
            required=frozenset({"size_gb"}),
            mark=MarkIn.LABEL,
            idempotency=Idempotency.KEY,
            unique_names=True,
        ),
    },
    page_size=PAGE_SIZE,
    ready_timeout_seconds=1200,
    poll_interval_seconds=2,
    pricing=(Pricing.ON_DEMAND, Pricing.SPOT),
    spot=True,
    stop_start=True,
    bills_when_stopped=False,
    multi_node=True,
    exec=True,
    logs=True,
    log_streaming=True,
    restart_empties=True,
    workspace_path=WORKSPACE,
    notes=(
        "a cluster is one StatefulSet, a node one of its pods, which Kubernetes makes anew when it is lost",
        "what is not on a volume is lost when a node restarts",
        "prices are those of `prices` in the provider block",
    ),
    lacks={
        "restart": "a StatefulSet starts its pods again whenever they end",
        "ssh_keys": "nodes are reached through the API server; run an sshd in the image where SSH is a must",
        "networks": "whatever network the cluster has is everyone's",
        "user_data": "pods have no first boot: use `setup`, or an image that has it all",
    },
)


def capabilities_of(options: Options) -> Capabilities:
    return _CAPABILITIES if options.offers else replace(_CAPABILITIES, offers=False)
