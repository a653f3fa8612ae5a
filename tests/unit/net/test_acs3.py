"""Signatures of Alibaba Cloud, by the vectors of its own signer."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.acs3 import Acs3, authorization, flat
from gpuplan.net.auth import Signing
from gpuplan.net.exchange import Outgoing, Response

HOST = "ecs.cn-hangzhou.aliyuncs.com"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FORM = b"RegionId=cn-hangzhou&UserData=IyEvYmluL2Jhc2gK"
KEYS = {"access_key_id": "testid", "access_key_secret": "testsecret"}
HEADERS = {
    "host": HOST,
    "x-acs-action": "RunInstances",
    "x-acs-version": "2014-05-26",
    "x-acs-date": "2026-01-02T03:04:05Z",
    "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
}
QUERY = {
    "RegionId": "cn-hangzhou",
    "InstanceType": "ecs.gn6i-c4g1.xlarge",
    "InstanceName": "gpu node/1*~",
    "Tag.1.Key": "gpuplan:id",
    "Tag.1.Value": "a b+c",
    "ClientToken": "123e4567-e89b-12d3-a456-426655440000",
}


def signature(outgoing: Outgoing) -> str:
    return authorization(outgoing, key_id="testid", secret="testsecret").rpartition("Signature=")[2]


def signed(**more: str) -> dict[str, str]:
    keys = {name: Secret(key) for name, key in {**KEYS, **more}.items()}

    async def nobody(outgoing: Outgoing) -> Response:
        raise AssertionError("signing asks nobody")

    signing = Signing(keys, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), nobody)
    return dict(asyncio.run(Acs3().sign(Outgoing("POST", "http://127.0.0.1:8900/alibaba/", {}), signing)).headers)


def test_parameters_of_the_url_are_signed() -> None:
    headers = {**HEADERS, "x-acs-content-sha256": EMPTY}
    proof = authorization(
        Outgoing("POST", f"https://{HOST}/?{urlencode(QUERY)}", headers), key_id="testid", secret="testsecret"
    )

    names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
    vector = "d405737fe7a8df3706de3266397c0ce544c95ea7f2972d71fa6c740138cad07b"
    assert f"ACS3-HMAC-SHA256 Credential=testid,SignedHeaders={names},Signature={vector}" == proof


@pytest.mark.parametrize(
    ("more", "vector"),
    [
        ({}, "68039200ec2482dc6f54d202bf7204749183e4ebeafbc058c3b5d086e2e16d5d"),
        (
            {"x-acs-accesskey-id": "testid", "x-acs-security-token": "ststoken"},
            "151341868d5cfbec080d9b2b180705b3876b5973e54999ab46ff839199dfa0e7",
        ),
    ],
)
def test_a_form_is_signed_by_its_digest(more: dict[str, str], vector: str) -> None:
    form = {
        "content-type": "application/x-www-form-urlencoded",
        "x-acs-content-sha256": hashlib.sha256(FORM).hexdigest(),
    }

    assert vector == signature(Outgoing("POST", f"https://{HOST}/", {**HEADERS, **form, **more}, FORM))


def test_other_headers_are_not_signed() -> None:
    headers = {**HEADERS, "x-acs-content-sha256": EMPTY}
    more = {**headers, "Accept": "application/json", "User-Agent": "somebody"}

    assert signature(Outgoing("POST", f"https://{HOST}/", headers)) == signature(
        Outgoing("POST", f"https://{HOST}/", more)
    )


def test_every_signing_has_its_own_nonce() -> None:
    first, second = signed(), signed()

    assert first["x-acs-signature-nonce"] != second["x-acs-signature-nonce"]
    assert "2026-01-02T03:04:05Z" == first["x-acs-date"]
    assert "127.0.0.1:8900" == first["host"]
    assert "x-acs-security-token" not in first


def test_a_temporary_credential_brings_its_token() -> None:
    headers = signed(security_token="ststoken")

    assert ("testid", "ststoken") == (headers["x-acs-accesskey-id"], headers["x-acs-security-token"])
    assert "x-acs-security-token" in headers["Authorization"]


def test_nested_parameters_have_dotted_names() -> None:
    nested: Mapping[str, JsonValue] = {
        "Tag": [{"Key": "a", "Value": "b"}],
        "SystemDisk": {"Size": 40},
        "DryRun": True,
        "Zone": None,
        "Ids": ["x"],
    }

    assert {
        "Tag.1.Key": "a",
        "Tag.1.Value": "b",
        "SystemDisk.Size": "40",
        "DryRun": "true",
        "Ids.1": "x",
    } == flat(nested)
