"""The provider contract as checks anyone can inherit: ours for every built-in type, yours for your own.

    class TestAcme(ProviderConformance):
        @contextmanager
        def open_bench(self, folder):
            with asyncio.Runner() as runner:
                yield Bench(acme_account(folder), SystemClock(), runner.run, asks={Kind.NODE: {"gpu": "H100-80GB:1"}})

A subclass says how to open a fresh account and what to ask of it; everything else is here. The number in a check's name
is that of the rule in `docs/adding-a-provider.md`. Further classes add checks for those who can do more to the world
behind the provider: fill it up, or take something away behind its back.
"""

import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from gpuplan.core.capabilities import Idempotency
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, NoCapacity, NotFound
from gpuplan.core.gpus import known_gpus
from gpuplan.core.marks import MarkIn
from gpuplan.core.observed import GONE, Status
from gpuplan.core.offers import OfferQuery
from gpuplan.core.ports import CanExtend, CanForesee, CanLog, CanStop, CanUpdate, HasChannel, HasSsh, ProviderType
from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.subject import (
    NOT_SENT,
    RUNNING_KINDS,
    Subject,
    lacks,
    no_change_at_all,
    no_env,
    no_exec,
    no_idempotency,
    no_logs,
    no_offers,
    no_stop,
    no_update,
    tried_unless,
)

T = TypeVar("T", bound="ProviderConformance")

_SECRET = "conformance-canary-secret"


def check(body: Callable[[T, Bench], Coroutine[Any, Any, None]]) -> Callable[[T, Bench], None]:
    """Run a check in the bench's own event loop, so that no pytest plugin is needed."""

    @functools.wraps(body)
    def run(self: T, bench: Bench) -> None:
        if not lacks(body.__name__, Subject(bench.capabilities, bench.asks, type(self))):
            bench.run(body(self, bench))

    return run


class ProviderConformance:
    """The rules every adapter keeps. A contract, which `gpuplan conformance TYPE` runs by the name of its type, also
    says what follows here."""

    provider_type: ClassVar[ProviderType]
    asks: ClassVar[Mapping[Kind, Attrs]]
    """For every kind the provider has: attributes to create one with, as many as can be observed."""
    changes: ClassVar[Mapping[Kind, Attrs]] = {}
    """Other values for attributes that can be changed in place; at least one of each kind that has such attributes."""
    missing_id: ClassVar[str] = "00000000-0000-4000-8000-000000000000"
    """An id of the right form that no object has."""
    options: ClassVar[Mapping[str, JsonValue]] = {}
    """Of the provider block."""

    @classmethod
    def subject(cls) -> Subject:
        """The type as it describes itself."""
        options = cls.provider_type.options.model_validate(cls.options)
        return Subject(cls.provider_type.capabilities(options), cls.asks, cls)

    def open_bench(self, folder: Path) -> AbstractContextManager[Bench]:
        """A fresh account. `folder` is empty and the check's own."""
        raise NotImplementedError(f"{type(self).__name__} must say how to open an account")

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        with self.open_bench(tmp_path) as bench:
            try:
                yield bench
            finally:
                bench.run(bench.clear())

    @check
    async def test_rule_01_every_declared_kind_is_tried(self, bench: Bench) -> None:
        assert set(bench.capabilities.kinds) == set(bench.asks)
        for kind, can in bench.capabilities.kinds.items():
            assert set(can.attributes) >= can.required
            assert set(can.attributes) >= set(bench.asks[kind])
            assert set(bench.asks[kind]) >= can.required

    @check
    async def test_rule_02_verbs_and_capabilities_agree(self, bench: Bench) -> None:
        can, provider = bench.capabilities, bench.provider
        changeable = {m for kind in can.kinds.values() for m in kind.attributes.values()} - NOT_SENT

        assert can.stop_start == isinstance(provider, CanStop)
        assert can.logs == isinstance(provider, CanLog)
        assert can.exec == isinstance(provider, HasChannel)
        assert can.ssh == isinstance(provider, HasSsh)
        assert bool(changeable) == isinstance(provider, CanUpdate)
        assert (can.lease is not None and can.lease.extendable) == isinstance(provider, CanExtend)
        if any(kind.mark is MarkIn.NONE for kind in can.kinds.values()):
            assert isinstance(provider, CanForesee)

    @check
    async def test_rule_03_the_account_has_a_lasting_name(self, bench: Bench) -> None:
        first, second = await bench.provider.health(), await bench.provider.health()

        assert first.id
        assert first == second

    @check
    async def test_rule_04_a_created_object_comes_up(self, bench: Bench) -> None:
        for kind in bench.asks:
            made = await bench.make(kind)

            assert made.remote_id
            assert kind is made.seen.kind

    @check
    async def test_rule_05_a_created_object_is_listed_with_its_mark(self, bench: Bench) -> None:
        for kind, can in bench.capabilities.kinds.items():
            made = await bench.make(kind)
            listed = (await bench.listed(kind))[made.remote_id]
            if can.mark is not MarkIn.NONE:
                assert listed.mark is not None
                assert made.mark.token == listed.mark.token

    @check
    async def test_rule_06_get_and_list_tell_the_same(self, bench: Bench) -> None:
        for kind in bench.asks:
            made = await bench.make(kind)
            listed = (await bench.listed(kind))[made.remote_id]
            got = await bench.provider.get(kind, made.remote_id)

            assert got is not None
            assert (listed.remote_id, listed.status, listed.attrs) == (got.remote_id, got.status, got.attrs)

    @check
    async def test_rule_07_observed_attributes_equal_those_asked(self, bench: Bench) -> None:
        for kind, asked in bench.asks.items():
            seen = (await bench.make(kind)).seen

            assert set(seen.attrs) <= set(bench.capabilities.kinds[kind].attributes)
            assert {name: asked[name] for name in seen.attrs if name in asked} == {
                name: value for name, value in seen.attrs.items() if name in asked
            }

    @check
    async def test_rule_08_a_missing_object_is_none(self, bench: Bench) -> None:
        for kind in bench.asks:
            assert await bench.provider.get(kind, bench.missing_id) is None

    @check
    async def test_rule_09_delete_of_a_missing_object_is_success(self, bench: Bench) -> None:
        for kind in bench.asks:
            await bench.provider.delete(kind, bench.missing_id, bench.links)

    @check
    async def test_rule_10_a_deleted_object_is_gone_and_deleting_it_again_is_success(self, bench: Bench) -> None:
        for kind in bench.asks:
            made = await bench.make(kind)
            await bench.until_gone(kind, made.remote_id)
            await bench.provider.delete(kind, made.remote_id, bench.links)

            assert made.remote_id not in await bench.listed(kind)

    @check
    async def test_rule_11_every_token_makes_an_object_of_its_own(self, bench: Bench) -> None:
        for kind in bench.asks:
            first, second = await bench.make(kind), await bench.make(kind)

            assert first.remote_id != second.remote_id
            assert {first.remote_id, second.remote_id} <= set(await bench.listed(kind))

    @tried_unless(no_idempotency)
    @check
    async def test_rule_12_a_token_sent_twice_makes_one_object(self, bench: Bench) -> None:
        for kind, can in bench.capabilities.kinds.items():
            made = await bench.make(kind)
            before = set(await bench.listed(kind))
            match can.idempotency:
                case Idempotency.KEY:
                    again = await bench.provider.create(made.want, made.mark, bench.links)
                    assert made.remote_id == again.remote_id
                case Idempotency.NAME:
                    with pytest.raises(Conflict):
                        await bench.provider.create(made.want, made.mark, bench.links)
                case Idempotency.NONE:
                    pass
            assert before == set(await bench.listed(kind))

    @tried_unless(no_update)
    @check
    async def test_rule_13_an_update_keeps_the_object(self, bench: Bench) -> None:
        for kind, can in bench.capabilities.kinds.items():
            changes = bench.changes.get(kind, {})
            assert bool(changes) == bool(set(can.attributes.values()) - NOT_SENT)
            if not changes:
                continue
            assert isinstance(bench.provider, CanUpdate)
            made = await bench.make(kind)
            want = replace(made.want, attrs={**made.want.attrs, **changes}, update=frozenset(changes))
            changing = Made(want, made.mark, await bench.provider.update(want, made.remote_id, bench.links))
            changed = await bench.until(changing, Status.RUNNING)

            assert made.remote_id == changed.remote_id
            assert {name: changes[name] for name in changed.seen.attrs if name in changes} == {
                name: value for name, value in changed.seen.attrs.items() if name in changes
            }

    @tried_unless(no_stop)
    @check
    async def test_rule_14_a_stopped_object_stays_and_starts_again(self, bench: Bench) -> None:
        for kind in _that_run(bench):
            assert isinstance(bench.provider, CanStop)
            made = await bench.make(kind)
            stopping = Made(made.want, made.mark, await bench.provider.stop(kind, made.remote_id))
            stopped = await bench.until(stopping, Status.STOPPED)
            assert made.remote_id in await bench.listed(kind)
            starting = Made(made.want, made.mark, await bench.provider.start(kind, stopped.remote_id))
            started = await bench.until(starting, Status.RUNNING)

            assert made.remote_id == started.remote_id

    @tried_unless(no_change_at_all)
    @check
    async def test_rule_15_verbs_on_a_missing_object_are_not_found(self, bench: Bench) -> None:
        for kind, changes in bench.changes.items():
            assert isinstance(bench.provider, CanUpdate)
            want, _ = bench.ask(kind, **changes)
            with pytest.raises(NotFound):
                await bench.provider.update(want, bench.missing_id, bench.links)
        for kind in _that_run(bench):
            assert isinstance(bench.provider, CanStop)
            with pytest.raises(NotFound):
                await bench.provider.stop(kind, bench.missing_id)
            with pytest.raises(NotFound):
                await bench.provider.start(kind, bench.missing_id)

    @tried_unless(no_logs)
    @check
    async def test_rule_16_logs_are_lines(self, bench: Bench) -> None:
        for kind in RUNNING_KINDS:
            if kind in bench.asks:
                made = await bench.make(kind)
                assert isinstance(bench.provider, CanLog)
                lines = [line async for line in bench.provider.logs(kind, made.remote_id, follow=False, tail=10)]

                assert len(lines) <= 10
                assert not any(line.endswith("\n") for line in lines)

    @tried_unless(no_exec)
    @check
    async def test_rule_17_a_command_tells_its_status_and_its_last_lines(self, bench: Bench) -> None:
        made = await bench.make(bench.main)
        assert isinstance(bench.provider, HasChannel)
        channel = await bench.provider.channel(made.remote_id)
        result = await channel.run("echo $GREETING; exit 3", env={"GREETING": "hello"})
        await channel.close()

        assert 3 == result.status
        if bench.has_shell:
            assert "hello" == result.tail.strip()

    @check
    async def test_rule_18_offers_use_canonical_names_and_honest_prices(self, bench: Bench) -> None:
        offers = await bench.provider.offers(OfferQuery())

        assert bool(offers) == bench.capabilities.offers
        for offer in offers:
            assert offer.gpu == "" or offer.gpu in known_gpus()
            assert bool(offer.gpu) == (offer.gpu_count > 0)
            assert offer.price_per_hour is None or offer.price_per_hour >= 0
            assert offer.pricing in bench.capabilities.pricing
        assert len(offers) == len({(offer.ref, offer.region, offer.zone, offer.pricing) for offer in offers})

    @tried_unless(no_offers)
    @check
    async def test_rule_19_offers_of_a_query_are_among_all_offers(self, bench: Bench) -> None:
        fitting: dict[tuple[str, int], set[str]] = {}
        for offer in await bench.provider.offers(OfferQuery()):
            fitting.setdefault((offer.gpu, offer.gpu_count), set()).add(offer.ref)
        for (gpu, count), refs in fitting.items():
            narrowed = await bench.provider.offers(OfferQuery(gpu=gpu, gpu_count=count))

            assert refs <= {found.ref for found in narrowed}

    @tried_unless(no_env)
    @check
    async def test_rule_20_a_secret_does_not_come_back(self, bench: Bench) -> None:
        for kind, can in bench.capabilities.kinds.items():
            if "env" in can.attributes:
                made = await bench.make(kind, env={"TOKEN": Secret(_SECRET)})
                listed = (await bench.listed(kind))[made.remote_id]

                assert _SECRET not in repr((listed.attrs, listed.facts, listed.detail, listed.mark))


class FiniteConformance(ProviderConformance):
    """For accounts whose capacity a check can use up."""

    async def fill(self, bench: Bench) -> Attrs:
        """Use up what there is of something; returns attributes of a node that would need more of it."""
        raise NotImplementedError(f"{type(self).__name__} must say how to use up the capacity")

    @check
    async def test_rule_21_a_full_house_is_no_capacity_and_makes_nothing(self, bench: Bench) -> None:
        attrs = await self.fill(bench)
        before = set(await bench.listed(bench.main))
        want, mark = bench.ask(bench.main, **attrs)
        with pytest.raises(NoCapacity) as caught:
            await bench.provider.create(want, mark, bench.links)

        assert caught.value.failure.gpu
        assert before == set(await bench.listed(bench.main))


class ExposedConformance(ProviderConformance):
    """For accounts a check can change behind the provider's back."""

    async def vanish(self, bench: Bench, made: Made) -> None:
        """Take the object away, as a user at the provider's console would."""
        raise NotImplementedError(f"{type(self).__name__} must say how an object vanishes")

    async def fail(self, bench: Bench, made: Made) -> None:
        """Make the node die, as a broken machine does."""
        raise NotImplementedError(f"{type(self).__name__} must say how a node dies")

    @check
    async def test_rule_22_what_vanished_is_absent(self, bench: Bench) -> None:
        for kind in bench.asks:
            made = await bench.make(kind)
            await self.vanish(bench, made)

            assert await bench.is_gone(kind, made.remote_id)
            assert made.remote_id not in await bench.listed(kind)

    @check
    async def test_rule_23_a_dead_node_is_seen_as_dead(self, bench: Bench) -> None:
        made = await bench.make(bench.capabilities.granularity)
        await self.fail(bench, made)
        seen = await bench.provider.get(made.kind, made.remote_id)

        assert seen is None or seen.status in {*GONE, Status.FAILED, Status.STOPPED}


def _that_run(bench: Bench) -> Sequence[Kind]:
    """The kinds that can be stopped, where anything can."""
    return [kind for kind in RUNNING_KINDS if bench.capabilities.stop_start and kind in bench.asks]
