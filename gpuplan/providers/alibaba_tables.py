"""What gpuplan knows of Alibaba Cloud in tables: where it is, what errors mean, what can be done."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from gpuplan.core.capabilities import (
    Capabilities,
    Idempotency,
    KindCapabilities,
    Mutability,
    ProviderKind,
    RateLimit,
)
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    ProtocolMismatch,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.offers import Pricing
from gpuplan.core.values import JsonValue
from gpuplan.net.acs3 import Acs3
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.payload import dig
from gpuplan.net.profile import (
    AfterHeader,
    ConfigFile,
    Credential,
    Cursor,
    Encoding,
    Host,
    HttpProfile,
    KeyField,
    Numbered,
    Rule,
    Unit,
)

ECS_VERSION = "2014-05-26"
VPC_VERSION, STS_VERSION = "2016-04-28", "2015-04-01"
VPC, STS = "vpc", "sts"
PERMITTED = "DryRunOperation"
"""The code of a request that was only to be checked, and would have been carried out."""
BY_NUMBER = Numbered(send="PageNumber", size="PageSize", page_size=50, in_body=True)

OLD_KEY = r"InvalidAccessKeyId\..*|InvalidSecurityToken\..*|SignatureDoesNotMatch|IncompleteSignature"
FORBIDDEN = r"Forbidden\..*|NoPermission|UserNotInTheWhiteList"
MONEY = r"InvalidAccountStatus\..*|InsufficientBalance|Account\.Arrearage|InvalidPayMethod|RealNameAuthenticationError"
FULL = (
    r"OperationDenied(\.NoStock|\.ResourceControl)?|Zone\.NotOnSale|Zone\.NotOpen|ResourceNotAvailable"
    r"|InvalidInstanceType\.ZoneNotSupported|InstanceType\.Offline|InvalidResourceType\.NotSupported"
    r"|NodeControllerUnavailable|OperationDenied\.SpotPriceLowerThanPublicPrice"
    r"|InvalidSpotPriceLimit\.LowerThanPublicPrice"
)
BUSY = (
    r"IncorrectInstanceStatus(\..*)?|IncorrectVSwitchStatus|OperationConflict|InvalidOperation\.Conflict"
    r"|OperationDenied\.CreatingConflict|Last(Token|Order|Request)Processing|DependencyViolation.*"
    r"|KeyPair\.AlreadyExist"
)
RULES = (
    Rule(InvalidRequest, code=PERMITTED),
    Rule(RateLimited, code=r"Throttling(\..*)?|Rejected\.Throttling"),
    Rule(AuthFailed, code=r"IllegalTimestamp|InvalidTimeStamp\..*", hint="set the clock of this machine"),
    Rule(Unavailable, code="SignatureNonceUsed|InstanceNotReady"),
    Rule(QuotaExceeded, code=f"{MONEY}|Forbidden\\.RiskControl", hint="settle it in the console, under Expenses"),
    Rule(AuthFailed, code=f"{OLD_KEY}|{FORBIDDEN}"),
    Rule(
        QuotaExceeded,
        code=r"QuotaExceed(ed)?(\..*)?|SecurityGroupInstanceLimitExceed",
        hint="limits are raised in the console, under Quota Center",
    ),
    Rule(NoCapacity, code=FULL),
    Rule(Conflict, code=BUSY),
    Rule(
        InvalidRequest,
        code=r"InvalidOperation\.DeletionProtection",
        hint="lift its deletion protection: gpuplan does not do so by itself",
    ),
    # No other code means that an instance is gone: a wrong key is a 404 too.
    Rule(NotFound, code=r"InvalidInstanceId\.NotFound"),
    Rule(ProtocolMismatch, status=404, code=r"InvalidAction\..*|"),
    Rule(InvalidRequest, status=(400, 403, 404)),
)


class Options(HttpOptions):
    access_key_id: SecretStr | None = Field(None, description="better left to the environment")
    access_key_secret: SecretStr | None = Field(None, description="better left to the environment")
    security_token: SecretStr | None = Field(None, description="of a temporary credential")
    region_id: str = Field("cn-hangzhou", pattern=r"^[a-z]+(-[a-z0-9]+)+$", description="where the block's nodes are")
    security_group_id: str | None = Field(None, description="of nodes; port 22 must be open in it for SSH")
    vswitch_id: tuple[str, ...] | str = Field(
        (), description="where nodes are attached; several, in different zones, give more places to look for stock"
    )
    families: tuple[str, ...] = Field(
        (), description="instance families to choose from (`ecs.gn7i`); empty: all that have whole GPUs"
    )
    stopped_mode: Literal["StopCharging", "KeepCharging"] = Field(
        "StopCharging", description="whether a stopped node keeps its hardware, and its price"
    )
    usd_per_cny: Decimal = Field(Decimal("0.14"), gt=0, description="what a yuan costs, for accounts billed in yuan")

    @model_validator(mode="after")
    def _keys_have_two_parts(self) -> "Options":
        if self.key is not None or self.key_env is not None:
            raise ValueError("keys of Alibaba Cloud are `access_key_id` and `access_key_secret`")
        return self

    @property
    def vswitches(self) -> tuple[str, ...]:
        return (self.vswitch_id,) if isinstance(self.vswitch_id, str) else self.vswitch_id


REGION_VARIABLES = ("ALIBABA_CLOUD_REGION", "ALIBABA_CLOUD_REGION_ID", "ALICLOUD_REGION")


def defaults(environ: Mapping[str, str]) -> Mapping[str, JsonValue]:
    region = next((environ[name] for name in REGION_VARIABLES if environ.get(name)), None)
    return {"region_id": region} if region else {}


def saved_key(field: str) -> ConfigFile:
    """A field of the profile that is current in the configuration of Alibaba's own command line."""

    def pick(content: JsonValue) -> str | None:
        current, profiles = dig(content, "current"), dig(content, "profiles")
        for profile in profiles if isinstance(profiles, list) else ():
            # Keys of other modes are worth nothing without their token.
            if dig(profile, "name") == current and dig(profile, "mode") == "AK":
                key = dig(profile, field)
                return key if isinstance(key, str) and key else None
        return None

    return ConfigFile("~/.aliyun/config.json", pick)


GET_A_KEY = "https://ram.console.aliyun.com/manage/ak"


def profile(options: Options) -> HttpProfile:
    """Every region has an address of its own."""
    region = options.region_id
    ecs = f"https://ecs-{region}.aliyuncs.com" if region == "cn-hangzhou" else f"https://ecs.{region}.aliyuncs.com"
    vpc = "https://vpc.aliyuncs.com" if region == "cn-hangzhou" else f"https://vpc.{region}.aliyuncs.com"
    return HttpProfile(
        hosts={
            "": Host(ecs),
            VPC: Host(options.endpoint or vpc),
            STS: Host(options.endpoint or "https://sts.aliyuncs.com"),
        },
        auth=Acs3(),
        credentials={
            "access_key_id": Credential(
                env=("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALICLOUD_ACCESS_KEY"),
                files=(
                    saved_key("access_key_id"),
                    ConfigFile("~/.alibabacloud/credentials.ini", "default.access_key_id"),
                ),
                get_one_at=GET_A_KEY,
            ),
            "access_key_secret": Credential(
                env=("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALICLOUD_SECRET_KEY"),
                files=(
                    saved_key("access_key_secret"),
                    ConfigFile("~/.alibabacloud/credentials.ini", "default.access_key_secret"),
                ),
                get_one_at=GET_A_KEY,
            ),
            "security_token": Credential(
                env=("ALIBABA_CLOUD_SECURITY_TOKEN", "ALICLOUD_SECURITY_TOKEN"), required=False
            ),
        },
        rules=RULES,
        error_code=("Code",),
        error_message=("Message",),
        encoding=Encoding.FORM,
        headers={"x-acs-version": ECS_VERSION},
        action_header="x-acs-action",
        pages=Cursor(send="NextToken", at="NextToken", size="MaxResults", page_size=100, in_body=True),
        retry_after=(AfterHeader("x-acs-retry-after", Unit.MILLISECONDS), AfterHeader()),
        idempotency=KeyField("ClientToken"),
        request_id=("x-acs-request-id",),
    )


REPLACING = (
    *("gpu", "cpu", "memory_gb", "disk_gb", "region", "zone", "instance_type", "image", "env", "ssh_keys", "spot"),
    *("user_data", "setup", "options"),
)


def capabilities(options: Options) -> Capabilities:
    return Capabilities(
        kind=ProviderKind.CLOUD,
        kinds={
            Kind.NODE: KindCapabilities(
                {
                    **dict.fromkeys(REPLACING, Mutability.REPLACE),
                    "labels": Mutability.IN_PLACE,
                    "ports": Mutability.LOCAL,
                },
                idempotency=Idempotency.KEY,
            ),
            Kind.SSH_KEY: KindCapabilities(
                {"public_key": Mutability.REPLACE},
                required=frozenset({"public_key"}),
                idempotency=Idempotency.NAME,
                unique_names=True,
            ),
        },
        visibility_delay_seconds=120,
        ready_timeout_seconds=900,
        poll_interval_seconds=10,
        rate_limit=RateLimit(requests=10, per_seconds=1.0),
        pricing=(Pricing.ON_DEMAND, Pricing.SPOT),
        spot=True,
        stop_start=True,
        bills_when_stopped=options.stopped_mode == "KeepCharging",
        ssh=True,
        raw_tcp=True,
        symmetric_ports=True,
        logs=True,
        workspace_path="/root",
        notes=(
            "ports are opened in the security group, which is the block's and not gpuplan's",
            "a stopped node has given its GPU back: starting it can fail for want of stock, and its address changes",
            "prices are those of the instance: its disk and its traffic come on top",
        ),
        lacks={
            "volumes": "name a data disk in the image, or mount NAS in `setup`",
            "networks": "say `vswitch_id` and `security_group_id` in the provider block or in `options`",
            "command": "an instance boots an image: use `user_data` or `setup`",
        },
    )
