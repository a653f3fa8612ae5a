"""What surprises newcomers to Hetzner's private networks and firewalls, each surprise once."""

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Provider
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.testing.in_process import InProcessAccount
from tests.conformance.hetzner_account import (
    NODE,
    create,
    running,
    sent,
    shown,
    until,
    update,
)


def test_network_changes_at_the_same_time_are_conflicts_that_pass() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[object]:
        network = await create(account, provider, Kind.NETWORK, cidr="10.1.0.0/16")
        nodes = [await running(account, provider) for _ in range(2)]
        await update(account, provider, nodes[0], networks=[network.remote_id])
        with pytest.raises(Conflict) as caught:
            await update(account, provider, nodes[1], networks=[network.remote_id])
        assert "conflict" == caught.value.failure.code
        await account.clock.sleep(5)
        await update(account, provider, nodes[1], networks=[network.remote_id])
        await account.clock.sleep(5)
        return [seen.facts["private_ip"] for seen in (await provider.list(Kind.NODE, frozenset())).objects]

    assert ["10.1.0.2", "10.1.0.3"] == account.run(story)


def test_several_networks_are_attached_one_after_another_however_often_it_takes() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[int]:
        networks = [await create(account, provider, Kind.NETWORK, cidr=f"10.{n}.0.0/16") for n in (1, 2)]
        wanted = [network.remote_id for network in networks]
        node = await running(account, provider)
        with pytest.raises(Conflict):
            await update(account, provider, node, networks=wanted)
        await account.clock.sleep(5)
        seen = await update(account, provider, node, networks=wanted)
        assert Status.STARTING is seen.status
        await until(account, provider, seen, Status.RUNNING)
        await update(account, provider, node, networks=wanted)
        return [each["network"] for each in shown(account, f"/servers/{node.remote_id}")["server"]["private_net"]]

    assert 2 == len(account.run(story))
    assert 3 == sent(account, "POST", "/v1/servers/{id}/actions/{action}")


def test_a_firewall_waits_for_its_deleted_servers_to_let_go() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        firewall = await create(account, provider, Kind.NETWORK, rules=[{"port": 22}])
        node = await running(account, provider, networks=[firewall.remote_id], **NODE)
        await provider.delete(Kind.NODE, node.remote_id, {})
        with pytest.raises(Conflict) as caught:
            await provider.delete(Kind.NETWORK, firewall.remote_id, {})
        assert "resource_in_use" == caught.value.failure.code
        await account.clock.sleep(10)
        await provider.delete(Kind.NETWORK, firewall.remote_id, {})
        return await provider.get(Kind.NETWORK, firewall.remote_id)

    assert account.run(story) is None


def test_a_firewall_that_a_label_selector_applies_stays() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        firewall = await create(account, provider, Kind.NETWORK, rules=[{"port": 22}])
        account.world.ledger[0].hidden["selectors"] = ["team=x"]
        node = await running(account, provider, labels={"team": "x"}, **NODE)
        (applied,) = shown(account, f"/servers/{node.remote_id}")["server"]["public_net"]["firewalls"]
        assert firewall.remote_id == f"firewalls/{applied['id']}"
        await update(account, provider, node, networks=[])

    account.run(story)
    assert 0 == sent(account, "POST", "/v1/firewalls/{id}/actions/{action}")
