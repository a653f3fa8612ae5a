"""What else befalls clusters and volumes at Kubernetes: lost steps, secrets, quotas, volumes, rights; virtual time."""

import json
from typing import Any

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    ProtocolMismatch,
    QuotaExceeded,
)
from gpuplan.core.observed import Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.secret import Secret
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Response
from gpuplan.emulators.kubernetes_answers import status
from tests.conformance.kubernetes_account import Cluster, template_of


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_nothing_is_applied_to_what_is_about_to_go(cluster: Cluster) -> None:
    """It would be answered as done, and change nothing."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        await provider.delete(Kind.GROUP, seen.remote_id, {})
        with pytest.raises(Conflict):
            await cluster.update(provider, seen, image="python:3.14")

    cluster.run(story)


def test_a_lost_answer_between_the_steps_leaves_a_cluster_that_is_finished_later(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        want, mark = cluster.ask(env={"TOKEN": Secret("a-secret-token")})
        made = await provider.create(want, mark, {})
        for step in ("services", "secrets"):
            cluster.world.faults.append(Fault(FaultKind.STATUS, method="PATCH", status=403, times=1))
            with pytest.raises(AuthFailed):
                await provider.advance(want, mark, made, {})
            assert [] == cluster.pods(made), step
        (listed,) = (await provider.list(Kind.GROUP, frozenset())).objects
        assert (mark.token, Status.STARTING) == (listed.mark.token, listed.status)
        seen = await cluster.until(provider, want, mark, listed, Status.RUNNING)
        again = await provider.advance(want, mark, seen, {})

        assert seen.remote_id == again.remote_id
        assert 1 == len([thing for thing in cluster.world.ledger if thing.kind == "group"])

    cluster.run(story)


def test_what_is_sensitive_is_in_a_secret_and_nowhere_else(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, env={"TOKEN": Secret("a-secret-token"), "PLAIN": "text"})
        first = template_of(cluster.live(seen))
        await cluster.update(provider, seen, env={"TOKEN": Secret("another-token"), "PLAIN": "text"})
        second = cluster.live(seen)["spec"]["template"]

        assert "a-secret-token" not in json.dumps(first)
        assert "secretKeyRef" in json.dumps(first)
        assert "gpuplan.io/environment" in second["metadata"]["annotations"]
        assert Status.RUNNING is (await cluster.settled(provider, await provider.get(Kind.GROUP, seen.remote_id),
                                                        Status.RUNNING)).status  # fmt: skip

    cluster.run(story)


def test_a_cluster_takes_what_belongs_to_it_along(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, env={"TOKEN": Secret("a-secret-token")})
        assert {"group", "service", "secret", "node"} == {t.kind for t in cluster.world.ledger if t.deleted_at is None}
        await provider.delete(Kind.GROUP, seen.remote_id, {})
        await cluster.clock.sleep(10)
        assert await provider.get(Kind.GROUP, seen.remote_id) is None

        assert [] == [thing.name for thing in cluster.world.ledger if thing.deleted_at is None]

    cluster.run(story)


def test_stopping_keeps_the_size_and_everything_else(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, env={"A": "1"})
        before = cluster.live(seen)["spec"]["template"]
        stopped = await cluster.settled(provider, await provider.stop(Kind.GROUP, seen.remote_id), Status.STOPPED)
        again = await cluster.settled(provider, await provider.start(Kind.GROUP, seen.remote_id), Status.RUNNING)

        assert 2 == stopped.attrs["nodes"]
        assert seen.attrs == again.attrs
        assert before == cluster.live(seen)["spec"]["template"]

    cluster.run(story)


def test_a_quota_that_only_pods_would_notice_is_told_before(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        quota = {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": {"name": "gpus"},
                 "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}}  # fmt: skip
        cluster.asked("POST", "/api/v1/namespaces/default/resourcequotas", quota)
        with pytest.raises(QuotaExceeded) as caught:
            await cluster.create(provider)

        assert (
            "of the 8 requests.nvidia.com/gpu of quota `gpus` 0 are used, 16 more are needed"
            == caught.value.failure.message
        )

    cluster.run(story)


def test_pods_that_cannot_even_be_made_are_explained_by_events(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        quota = {
            "kind": "ResourceQuota",
            "apiVersion": "v1",
            "metadata": {"name": "pods"},
            "spec": {"hard": {"pods": "0"}},
        }
        cluster.asked("POST", "/api/v1/namespaces/default/resourcequotas", quota)
        want, mark = cluster.ask()
        seen = await provider.advance(want, mark, await provider.create(want, mark, {}), {})
        seen = await provider.get(Kind.GROUP, seen.remote_id)

        assert Status.FAILED is seen.status
        assert isinstance(seen.failure, QuotaExceeded)
        assert "exceeded quota: pods" in seen.detail

    cluster.run(story)


def test_a_volume_for_one_machine_is_named_as_the_hindrance(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        volume = await cluster.create(provider, Kind.VOLUME, size_gb=100)
        mounts = [{"volume": volume.remote_id, "mount": "/data"}]
        want, mark = cluster.ask(volumes=mounts)
        seen = await provider.advance(want, mark, await provider.create(want, mark, {}), {})
        for _ in range(60):
            await cluster.clock.sleep(2)
            seen = await provider.get(Kind.GROUP, seen.remote_id)

        assert "waits: Multi-Attach error for volume" in seen.detail

    cluster.run(story)


def test_a_volume_that_nobody_used_cannot_grow_yet(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        volume = await cluster.create(provider, Kind.VOLUME, size_gb=100)
        with pytest.raises(InvalidRequest) as caught:
            await cluster.update(provider, volume, size_gb=200)
        await cluster.create(provider, nodes=1, volumes=[{"volume": volume.remote_id, "mount": "/workspace"}])
        grown = await cluster.update(provider, volume, size_gb=200)

        assert "it is not bound yet" in caught.value.failure.message
        assert 200 == grown.attrs["size_gb"]

    cluster.run(story)


def test_a_volume_in_use_is_gone_only_after_its_user(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        volume = await cluster.create(provider, Kind.VOLUME, size_gb=100)
        user = await cluster.create(provider, nodes=1, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
        await provider.delete(Kind.VOLUME, volume.remote_id, {})
        going = await provider.get(Kind.VOLUME, volume.remote_id)
        await provider.delete(Kind.GROUP, user.remote_id, {})
        await cluster.clock.sleep(10)

        assert Status.TERMINATING is going.status
        assert await provider.get(Kind.VOLUME, volume.remote_id) is None

    cluster.run(story)


def test_machines_that_may_not_be_looked_at_are_no_reason_to_fail_where_the_block_says_so(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        cluster.world.knobs["kubernetes"]["forbidden"] = ["list nodes", "get namespaces", "list resourcequotas"]
        with pytest.raises(AuthFailed) as caught:
            await provider.offers(OfferQuery())
        confined = cluster.open(offers=False)
        selector = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
        seen = await cluster.create(confined, options={"node_selector": selector})
        with pytest.raises(InvalidRequest) as unsaid:
            await cluster.create(confined)

        assert "`offers: false`" in str(caught.value.failure.hint)
        assert () == await confined.offers(OfferQuery())
        assert Status.RUNNING is seen.status
        assert "node_selector" in unsaid.value.failure.message
        assert (await confined.health()).id

    cluster.run(story)


def test_machines_an_autoscaler_brings_are_offered_and_waited_for(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        offers = await provider.offers(OfferQuery(gpu="B200", gpu_count=8))
        want, mark = cluster.ask(gpu="B200:8", nodes=1)
        seen = await provider.advance(want, mark, await provider.create(want, mark, {}), {})
        await cluster.clock.sleep(300)
        waiting = await provider.get(Kind.GROUP, seen.remote_id)
        await cluster.clock.sleep(310)
        failed = await provider.get(Kind.GROUP, seen.remote_id)

        assert [(Stock.UNTOLD, None)] == [(offer.stock, offer.max_count) for offer in offers]
        assert Status.PENDING is waiting.status
        assert isinstance(failed.failure, NoCapacity)

    labels = {"cloud.google.com/gke-accelerator": "nvidia-b200"}
    cluster.run(story, expected=[{"gpu": "B200:8", "labels": labels}])


def test_spot_machines_are_only_for_those_who_ask(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        spot = await cluster.create(provider, nodes=1, spot={})
        kept = await cluster.create(provider, nodes=1)

        assert "h100-spot-0" == spot.facts["nodes"][0]["machine"]
        assert "h100-0" == kept.facts["nodes"][0]["machine"]

    cluster.run(story)


def test_what_the_schema_does_not_have_is_our_mistake_though_the_server_takes_it_for_its_own(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        text = "failed to create typed patch object (default/x; apps/v1, Kind=StatefulSet): .spec.bogus: unknown"
        cluster.desk.scripted["PATCH"] = Response(500, status(500, text, reason=""))
        with pytest.raises(InvalidRequest):
            await cluster.create(provider)
        assert 1 == len([e for e in cluster.desk.exchanges if e.request.method == "PATCH"])

    cluster.run(story)


def test_a_wrong_address_is_no_absence(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        cluster.desk.scripted["GET"] = Response(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        with pytest.raises(ProtocolMismatch):
            await provider.get(Kind.GROUP, seen.remote_id)

    cluster.run(story)


def test_a_namespace_that_is_not_there_is_said(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await cluster.create(provider)

        assert 'namespaces "ml" not found' == caught.value.failure.message
        assert "make the namespace" in str(caught.value.failure.hint)

    cluster.run(story, namespace="ml")


def test_a_rehearsal_checks_everything_and_keeps_nothing(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        want, mark = cluster.ask()
        await provider.rehearse(want, mark, "")
        assert [] == cluster.world.ledger
        seen = await cluster.create(provider)
        version = cluster.live(seen)["metadata"]["resourceVersion"]
        await provider.rehearse(*cluster.ask(image="python:3.14"), seen.remote_id)
        with pytest.raises(InvalidRequest):
            await provider.rehearse(*cluster.ask(labels={"team": "not a label!"}), "")

        assert version == cluster.live(seen)["metadata"]["resourceVersion"]

    cluster.run(story)


def test_logs_are_followed_over_the_end_of_a_stream(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, nodes=1)
        lines: list[str] = []
        async for line in provider.logs(Kind.GROUP, seen.remote_id, follow=True, tail=1):
            lines.append(line)
            if len(lines) == 3:
                await provider.delete(Kind.GROUP, seen.remote_id, {})

        assert len(lines) >= 3
        assert len(lines) == len(set(lines))

    cluster.run(story)
