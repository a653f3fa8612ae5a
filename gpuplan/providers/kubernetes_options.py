"""What a spec may say in Kubernetes' own words: the provider block, and `options:` of clusters and volumes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gpuplan.core.gpus import parse_gpu
from gpuplan.core.units import parse_duration
from gpuplan.net.http_provider import HttpOptions


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Toleration(Part):
    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Expected(Part):
    """Machines that an autoscaler brings once somebody asks for them."""

    gpu: str = Field(description="what one has: `H100-80GB:8`")
    labels: dict[str, str] = Field(min_length=1, description="what selects them")
    resource: str = Field("nvidia.com/gpu", description="the extended resource its GPUs are")
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    spot: bool = False

    @field_validator("gpu")
    @classmethod
    def _known(cls, text: str) -> str:
        try:
            return str(parse_gpu(text))
        except KeyError as exc:
            raise ValueError(f"`{text}` is no GPU that gpuplan knows") from exc


class Options(HttpOptions):
    kubeconfig: str | None = Field(
        None, description="path of a kubeconfig, several with `:` between them; else KUBECONFIG, else ~/.kube/config"
    )
    context: str | None = Field(None, description="context of the kubeconfig; its current one when absent")
    namespace: str | None = Field(
        None, description="where everything is made; else that of the context or of the pod, else `default`"
    )
    in_cluster: bool | None = Field(
        None, description="use the service account of the pod this runs in; by itself when there is no kubeconfig"
    )
    tolerations: tuple[Toleration, ...] = Field((), description="of every node made here")
    expected: tuple[Expected, ...] = Field((), description="machines that an autoscaler would add")
    capacity_wait: str | None = Field(
        None, description="how long nodes may wait for a machine; `10s`, and `10m` where machines are expected"
    )
    offers: bool = Field(True, description="false where these credentials may not list machines")
    prices: dict[str, float] = Field({}, description="USD per hour and GPU, by its name: Kubernetes tells none")

    @field_validator("capacity_wait")
    @classmethod
    def _duration(cls, text: str | None) -> str | None:
        if text is not None:
            parse_duration(text)
        return text

    @field_validator("prices")
    @classmethod
    def _gpus(cls, prices: dict[str, float]) -> dict[str, float]:
        for name in prices:
            try:
                parse_gpu(name)
            except KeyError as exc:
                raise ValueError(f"`{name}` is no GPU that gpuplan knows") from exc
        return prices

    @property
    def patience_seconds(self) -> float:
        if self.capacity_wait is not None:
            return parse_duration(self.capacity_wait)
        return 600.0 if self.expected else 10.0


class NodeOptions(Part):
    """`options:` of a cluster."""

    node_selector: dict[str, str] = Field({}, description="labels its machines must have")
    tolerations: tuple[Toleration, ...] = ()
    gpu_resource: str | None = Field(
        None, description="the extended resource instead of whole GPUs: `nvidia.com/mig-1g.10gb`"
    )
    resources: dict[str, str] = Field({}, description="further resources of each node: `{rdma/hca: 1}`")
    runtime_class: str | None = Field(None, description="`nvidia`, where GPUs are seen only through it")
    priority_class: str | None = None
    service_account: str | None = Field(None, description="its token is mounted then, and not otherwise")
    image_pull_secrets: tuple[str, ...] = ()
    queue: str | None = Field(None, description="a LocalQueue of Kueue")
    capabilities: tuple[str, ...] = Field((), description="Linux capabilities to add: `IPC_LOCK`")
    host_network: bool = False
    annotations: dict[str, str] = Field({}, description="of the pods")
    working_dir: str = "/workspace"
    grace_seconds: int = Field(30, ge=0, description="to end in, before it is killed")
    force: bool = Field(False, description="take over fields that somebody else has set since")


class VolumeOptions(Part):
    """`options:` of a volume."""

    access_modes: tuple[Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod"], ...] = (
        "ReadWriteOnce",
    )
