"""The contract of HTTP providers, against their emulator on a real port: every fault on every call, and what else only
an emulator can do to an account.

    class TestAcme(HttpProviderConformance):
        provider_type = PROVIDER
        asks = {Kind.NODE: {"instance_type": "gpu-1", "region": "eu", "gpu": "H100-80GB:1"}}
        shelf = {"gpu": "H100-80GB", "region": "eu"}
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import ProviderBlock
from gpuplan.core.errors import (
    AuthFailed,
    NoCredentials,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
)
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.ports import CanForesee, HasSsh, OpenContext, Want
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.conformance import ExposedConformance, FiniteConformance
from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.http_bench import FAULTS, READS, FaultCase, HttpBench, outcome_of
from gpuplan.testing.hurried import HurriedClock
from gpuplan.testing.subject import Subject, lacks, no_declared_keys, no_delay, tried_unless


def emulated_check(body: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a check in the bench's own event loop. Further arguments are parameters."""

    @functools.wraps(body)
    def run(self: "HttpProviderConformance", bench: HttpBench, **parameters: object) -> None:
        if not lacks(body.__name__, Subject(bench.capabilities, bench.asks, type(self))):
            bench.run(body(self, bench, **parameters))

    return run


faulty = pytest.mark.parametrize("fault", FAULTS, ids=str)


def _no_pages(subject: Subject) -> str:
    return "" if _http(subject).page_knobs else "its listings have no pages"


def _no_quota(subject: Subject) -> str:
    return "" if _http(subject).quota_knobs else "its emulator knows no quota"


def _http(subject: Subject) -> "type[HttpProviderConformance]":
    assert issubclass(subject.contract, HttpProviderConformance)
    return subject.contract


class HttpProviderConformance(FiniteConformance, ExposedConformance):
    """What a subclass must say: the type, what to ask for, and which stock runs out."""

    shelf: ClassVar[Mapping[str, JsonValue]]
    """`gpu` and `region` of the stock that `asks[NODE]` is taken from."""
    knobs: ClassVar[Mapping[str, JsonValue]] = {}
    page_knobs: ClassVar[Mapping[str, JsonValue]] = {}
    """Knobs that make pages of two objects; empty where the provider has no pages."""
    quota_knobs: ClassVar[Mapping[str, JsonValue]] = {}
    """Knobs that let the account have one node and no more; empty where the emulator knows no quota."""
    unknown_status: ClassVar[Mapping[str, JsonValue]] = {"status": "quantum"}
    """Fields of a node, in the provider's words, with a status nobody has heard of."""
    create_method: ClassVar[str] = "POST"
    """Of the call that makes a node, so that faults meet it and not what is looked up before."""
    create_route: ClassVar[str] = ""
    """Its route as the emulator writes it, where other calls of that method go before it."""
    crowd: ClassVar[Attrs] = {}
    """What is asked for instead where many nodes are: of a marketplace's machines few are quite alike. None leaves an
    attribute out."""
    crowd_knobs: ClassVar[Mapping[str, int]] = {}
    """Knobs that must grow with the number of nodes, and by how much for each of them."""
    looks_per_node: ClassVar[int] = 0
    """Calls about each single node that a refresh, or bringing it up, takes besides the listings: where those tell too
    little, or a creation has several steps."""
    public_path: ClassVar[str] = ""
    """What the base URL has behind the host: `/v2`."""
    listing_calls: ClassVar[int] = 1
    """Calls that a listing of nodes takes while they fit on one page: one for each collection they are spread over."""
    reads: ClassVar[Sequence[str]] = READS
    """The verbs that ask the provider; its offers may be written down here instead."""

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[HttpBench]:
        clock, type = HurriedClock(), self.provider_type
        with emulated(clock, [type.name]) as emulator, asyncio.Runner() as runner:
            if self.knobs:
                emulator.knobs(type.name, self.knobs)
            block = ProviderBlock(type.name, type.name, self.options, ())
            context = OpenContext(block, clock, {}, Redactor(), emulator.url)
            provider = type.open(type.options.model_validate(self.options), context)
            bench = HttpBench(
                provider,
                clock,
                runner.run,
                self.asks,
                self.changes,
                self.missing_id,
                emulator=emulator,
                type=type,
                options=self.options,
            )
            try:
                yield bench
            finally:
                for other in bench.opened:
                    runner.run(other.close())

    async def fill(self, bench: Bench) -> Attrs:
        _emulator(bench).stock(provider=self.provider_type.name, available=0, **self.shelf)
        return self.asks[bench.main]

    async def vanish(self, bench: Bench, made: Made) -> None:
        _emulator(bench).node(self.own_id(made), vanish=True)

    async def fail(self, bench: Bench, made: Made) -> None:
        _emulator(bench).node(self.own_id(made), unhealthy=True)

    def own_id(self, made: Made) -> str:
        """The id by which the emulator knows an object, where the remote id is composite."""
        return made.remote_id.rpartition("/")[2]

    def told_by(self, made: Made) -> str:
        """The id of what `unknown_status` is the status of, where that is not the object itself."""
        return self.own_id(made)

    @faulty
    @emulated_check
    async def test_rule_31_one_fault_on_a_read_is_not_noticed(self, bench: HttpBench, fault: FaultCase) -> None:
        made = await bench.make(bench.main)
        for verb in self.reads:
            bench.emulator.fault(fault.kind, **fault.fields(bench.type.name, 1))
            found = await bench.do(verb, made, bench.patient_for(fault))
            bench.emulator.clear_faults()

            assert found, verb

    @faulty
    @emulated_check
    async def test_rule_32_a_fault_without_end_on_a_read_is_never_an_absence(
        self, bench: HttpBench, fault: FaultCase
    ) -> None:
        made = await bench.make(bench.main)
        for verb in self.reads if fault.kind != "hang" else ("get",):
            bench.emulator.fault(fault.kind, **fault.fields(bench.type.name, None))
            if fault.harmless:
                assert await bench.do(verb, made), verb
            else:
                with pytest.raises((Unavailable, ProtocolMismatch, RateLimited)):
                    await bench.do(verb, made, bench.patient_for(fault))
            bench.emulator.clear_faults()

    @faulty
    @emulated_check
    async def test_rule_33_a_fault_on_a_create_never_doubles_and_never_lies(
        self, bench: HttpBench, fault: FaultCase
    ) -> None:
        for times in (1, None):
            want, mark = bench.ask(bench.main)
            fields = fault.fields(bench.type.name, times)
            aimed = {**fields, "method": self.create_method, "route": self.create_route}
            bench.emulator.fault(fault.kind, **aimed)
            outcome = await outcome_of(bench.patient_for(fault).create(want, mark, bench.links))
            bench.emulator.clear_faults()
            living = bench.living(mark.token)

            match outcome:
                case Refused():
                    assert [] == living
                    assert fault.is_before
                case OutcomeUnknown() | ProtocolMismatch():
                    assert len(living) <= 1
                    assert not fault.refuses
                    assert not fault.harmless
                case Observed():
                    assert 1 == len(living)
                case _:
                    raise AssertionError(outcome)
            await self._adopt(bench, want, mark, expected=len(living))

    async def _adopt(self, bench: HttpBench, want: Want, mark: Mark, *, expected: int) -> None:
        """What a create left behind is found by its token, or by what could be foreseen of it, as the next run would,
        where there is a listing."""
        if bench.capabilities.listing is Listing.NONE:
            return
        witness = bench.provider.witness(want, mark) if isinstance(bench.provider, CanForesee) else ""
        found = [
            seen
            for seen in (await bench.listed(bench.main)).values()
            if (seen.mark and seen.mark.token == mark.token) or (witness and seen.witness == witness)
        ]
        assert expected == len(found)
        for seen in found:
            await bench.until_gone(bench.main, seen.remote_id)

    @faulty
    @emulated_check
    async def test_rule_34_one_fault_on_a_change_can_be_mended_by_repeating_it(
        self, bench: HttpBench, fault: FaultCase
    ) -> None:
        for verb in bench.effects:
            made = await bench.make(bench.main)
            bench.emulator.fault(fault.kind, **fault.fields(bench.type.name, 1))
            outcome = await outcome_of(bench.do(verb, made, bench.patient_for(fault)))
            bench.emulator.clear_faults()

            if isinstance(outcome, ProviderError):
                assert isinstance(outcome, (OutcomeUnknown, ProtocolMismatch)), verb
                await bench.do(verb, made)
            if verb == "delete":
                await bench.until_gone(bench.main, made.remote_id)
                assert [] == bench.living(made.mark.token)

    @emulated_check
    async def test_rule_35_a_throttled_delete_without_end_did_nothing(self, bench: HttpBench) -> None:
        made = await bench.make(bench.main)
        bench.emulator.fault("status", provider=bench.type.name, status=429, probability=1.0)
        with pytest.raises(RateLimited):
            await bench.do("delete", made)
        bench.emulator.clear_faults()

        assert 1 == len(bench.living(made.mark.token))

    @emulated_check
    async def test_rule_36_credentials_that_are_not_accepted_say_so(self, bench: HttpBench) -> None:
        made = await bench.make(bench.main)
        stranger = bench.open_with_key("wrong-key-of-nobody", self.public_path)
        for verb in ("health", "list", "get", "delete"):
            with pytest.raises(AuthFailed) as caught:
                await bench.do(verb, made, stranger)
            assert "wrong-key-of-nobody" not in repr(caught.value.diagnostics)

        assert 1 == len(bench.living(made.mark.token))

    @emulated_check
    async def test_rule_37_missing_credentials_name_the_variable(self, bench: HttpBench) -> None:
        with pytest.raises(NoCredentials) as caught:
            bench.open({})

        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.hint
        assert "set `" in diagnostic.hint

    @emulated_check
    async def test_rule_38_another_key_is_another_account(self, bench: HttpBench) -> None:
        accounts = [
            (await bench.open_with_key(key, self.public_path).health()).id for key in ("key-of-one", "key-of-two")
        ]

        assert 2 == len(set(accounts))
        assert not any("key-of" in account for account in accounts)

    @tried_unless(_no_pages)
    @emulated_check
    async def test_rule_39_a_listing_is_read_to_its_last_page(self, bench: HttpBench) -> None:
        sent = [await bench.send(*bench.ask(bench.main)) for _ in range(5)]
        bench.emulator.knobs(bench.type.name, self.page_knobs)
        listed = await bench.listed(bench.main)

        assert {made.remote_id for made in sent} == set(listed)

    @tried_unless(no_delay)
    @emulated_check
    async def test_rule_40_a_listing_may_lag_for_the_declared_time(self, bench: HttpBench) -> None:
        bench.emulator.consistency(bench.type.name, bench.capabilities.visibility_delay_seconds)
        made = await bench.send(*bench.ask(bench.main))

        assert made.remote_id in await bench.listed(bench.main)

    @emulated_check
    async def test_rule_41_an_unknown_status_is_unknown_and_unknown_fields_are_ignored(self, bench: HttpBench) -> None:
        made = await bench.make(bench.main)
        bench.emulator.node(self.told_by(made), set={**self.unknown_status, "brand_new": {"shape": [1]}})
        seen = await bench.provider.get(bench.main, made.remote_id)
        listed = await bench.listed(bench.main)

        assert seen is not None
        assert Status.UNKNOWN is seen.status
        assert Status.UNKNOWN is listed[made.remote_id].status

    @emulated_check
    async def test_rule_42_a_preempted_node_is_seen_to_be_lost(self, bench: HttpBench) -> None:
        made = await bench.make(bench.main)
        bench.emulator.node(self.own_id(made), preempt=True)
        seen = await bench.provider.get(bench.main, made.remote_id)

        assert seen is None or seen.status in {*GONE, Status.FAILED, Status.STOPPED}

    @tried_unless(_no_quota)
    @emulated_check
    async def test_rule_43_a_quota_is_told_from_a_lack_of_capacity(self, bench: HttpBench) -> None:
        await bench.make(bench.main)
        bench.emulator.knobs(bench.type.name, self.quota_knobs)
        want, mark = bench.ask(bench.main)
        with pytest.raises(QuotaExceeded):
            await bench.provider.create(want, mark, bench.links)

        assert [] == bench.living(mark.token)

    @emulated_check
    async def test_rule_44_looking_at_all_nodes_costs_one_listing(self, bench: HttpBench) -> None:
        for _ in range(5):
            await bench.send(*bench.ask(bench.main))
        bench.emulator.forget_calls()
        await bench.provider.list(bench.main, frozenset(made.remote_id for made in bench.made.values()))

        assert self.listing_calls == len(bench.emulator.calls())

    def test_rule_45_the_log_of_calls_can_be_pasted_in_public(
        self, bench: HttpBench, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, logger="gpuplan.net"):
            bench.run(bench.live_through())

        lines = [record.getMessage() for record in caplog.records if record.name == "gpuplan.net"]
        assert lines
        for made in bench.made.values():
            assert not any(made.mark.token in line for line in lines)
        assert not any("gpuplan-emulator" in line for line in lines)

    @tried_unless(no_declared_keys)
    @emulated_check
    async def test_rule_46_ssh_reaches_a_node_with_its_declared_key(self, bench: HttpBench) -> None:
        import asyncssh

        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await bench.make(bench.main, ssh_keys=[key.export_public_key().decode().strip()])
        assert isinstance(bench.provider, HasSsh)
        target = bench.provider.ssh_target(made.seen)
        assert target is not None
        assert target.jump is not None
        async with (
            asyncssh.connect(
                target.jump.host, target.jump.port, username=target.jump.user, known_hosts=None, config=None
            ) as jump,
            asyncssh.connect(
                target.host,
                target.port,
                username=target.user,
                client_keys=[key],
                known_hosts=None,
                config=None,
                tunnel=jump,
            ) as connection,
        ):
            result = await connection.run("echo hello > greeting; cat greeting; exit 3")

        assert (3, "hello\n") == (result.exit_status, result.stdout)


def _emulator(bench: Bench) -> Emulated:
    assert isinstance(bench, HttpBench)
    return bench.emulator
