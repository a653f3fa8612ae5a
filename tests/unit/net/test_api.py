"""What an adapter calls, against the emulated Vultr in process: values in, values out."""

from collections.abc import AsyncGenerator

import pytest

from gpuplan.core.errors import Failure, NotFound, ProtocolMismatch
from gpuplan.core.ports import SshTarget
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.api import AccountFacts, Api
from gpuplan.net.exchange import Answer, Call
from gpuplan.net.payload import Payload, dig
from gpuplan.net.profile import Effect
from gpuplan.testing.clock import FakeClock


class Node(Payload):
    id: str
    name: str = "unnamed"
    size: int = 0


class Far:
    """Answers every call with one body, or an error; remembers the calls."""

    def __init__(self, body: JsonValue | Exception) -> None:
        self._body = body
        self.calls: list[Call] = []

    async def send(self, call: Call) -> Answer:
        self.calls.append(call)
        if isinstance(self._body, Exception):
            raise self._body
        return Answer(200, {}, self._body)


def api(far: Far, *, emulator: str | None = None, key: str = "k") -> Api:
    account = AccountFacts("acme", "https://acme.test", {"key": Secret(key)}, emulator)
    return Api(far, None, account, FakeClock(), None)  # type: ignore[arg-type]  no answer here comes in lines


def missing() -> NotFound:
    return NotFound(Failure("acme", "look"))


def test_parts_of_a_path_are_quoted_and_the_route_keeps_its_names() -> None:
    far = Far(None)
    FakeClock().run(api(far).call("POST", "/gpus/{id}/start", "NVIDIA A100/80", to="start it"))

    (call,) = far.calls
    assert ("/gpus/{id}/start", "/gpus/NVIDIA%20A100%2F80/start", Effect.ONCE) == (call.route, call.path, call.effect)


@pytest.mark.parametrize(
    ("method", "effect"),
    [("GET", Effect.NONE), ("PUT", Effect.REPEATABLE), ("DELETE", Effect.REPEATABLE), ("PATCH", Effect.ONCE)],
)
def test_a_method_tells_the_effect_unless_the_adapter_does(method: str, effect: Effect) -> None:
    far = Far(None)
    FakeClock().run(api(far).call(method, "/x", to="do it"))
    FakeClock().run(api(far).call(method, "/x", to="do it", effect=Effect.ONCE))

    assert [effect, Effect.ONCE] == [call.effect for call in far.calls]


def test_answers_are_read_leniently() -> None:
    far = Far({"node": {"id": 17, "name": None, "new": {"field": 1}}})

    assert Node(id="17") == FakeClock().run(api(far).call("GET", "/x", to="look", answer=Node, at="node"))


@pytest.mark.parametrize("body", [{"node": {"name": "no id"}}, {"node": []}, {}, None, "text"])
def test_an_answer_of_another_shape_is_not_understood_and_not_quoted(body: JsonValue) -> None:
    with pytest.raises(ProtocolMismatch) as caught:
        FakeClock().run(api(Far(body)).call("GET", "/x", to="look", answer=Node, at="node"))

    assert "no id" not in repr(caught.value.failure)


@pytest.mark.parametrize("body", [missing(), {"node": None}])
def test_what_the_provider_says_is_not_there_is_none(body: JsonValue | Exception) -> None:
    assert FakeClock().run(api(Far(body)).find("GET", "/x", to="look", answer=Node, at="node")) is None


@pytest.mark.parametrize("body", [{}, None, []])
def test_an_answer_without_a_word_on_it_is_no_absence(body: JsonValue) -> None:
    with pytest.raises(ProtocolMismatch):
        FakeClock().run(api(Far(body)).find("GET", "/x", to="look", answer=Node, at="node"))


def test_removing_what_is_gone_is_success() -> None:
    FakeClock().run(api(Far(missing())).remove("/x/{id}", "1", to="delete it"))


def test_a_table_is_read_once_however_many_ask_for_it() -> None:
    far = Far([1, 2])
    account = api(far)

    async def read() -> list[int]:
        return await account.call("GET", "/table", to="look", answer=list[int])

    async def main() -> list[list[int]]:
        return await account.together(account.remembered("table", read) for _ in range(5))

    assert [[1, 2]] * 5 == FakeClock().run(main())
    assert 1 == len(far.calls)


def test_the_first_error_of_several_calls_is_raised_as_it_is() -> None:
    account = api(Far(missing()))
    calls = (account.call("GET", "/x", to="look") for _ in range(3))

    async def main() -> None:
        await account.together(calls)

    with pytest.raises(NotFound):
        FakeClock().run(main())


def test_changes_of_a_whole_wait_for_each_other() -> None:
    clock, account, steps = FakeClock(), api(Far(None)), list[str]()

    async def change(name: str) -> None:
        async with account.alone("list"):
            steps.append(f"{name} reads")
            await clock.sleep(1)
            steps.append(f"{name} writes")

    async def main() -> None:
        await account.together([change("a"), change("b")])

    clock.run(main())

    assert ["a reads", "a writes", "b reads", "b writes"] == steps


class Streaming:
    """An answer in lines: each after so many seconds; it never ends."""

    def __init__(self, clock: FakeClock, pauses: list[float]) -> None:
        self._clock = clock
        self._pauses = pauses
        self.is_closed = False

    async def lines(self, call: Call) -> AsyncGenerator[str, None]:
        try:
            for number, pause in enumerate([*self._pauses, 1e6]):
                await self._clock.sleep(pause)
                yield f"line {number}"
        finally:
            self.is_closed = True

    async def close(self) -> None:
        """Nothing is held open."""


@pytest.mark.parametrize(
    ("pauses", "heard"), [([0, 1, 2], 3), ([14, 2], 2), ([0, 4, 1], 1), ([], 0)], ids=["even", "late", "gap", "silent"]
)
def test_a_stream_that_stays_open_ends_where_it_goes_quiet(pauses: list[float], heard: int) -> None:
    clock = FakeClock()
    stream = Streaming(clock, pauses)
    account = Api(Far(None), stream, AccountFacts("acme", "https://acme.test", {}), clock, None)

    async def main() -> list[str]:
        return [line async for line in account.lines("/log", to="read", quiet_seconds=3)]

    assert [f"line {number}" for number in range(heard)] == clock.run(main())
    assert stream.is_closed


def test_an_account_is_named_without_its_key() -> None:
    one, two = api(Far(None), key="secret-one").account_id(), api(Far(None), key="secret-two").account_id()

    assert one != two
    assert "secret" not in one
    assert api(Far(None), key="a").account_id("told@acme.test") == api(Far(None), key="b").account_id("told@acme.test")


def test_an_emulated_node_is_behind_the_port_after_the_emulators() -> None:
    gateway = SshTarget("127.0.0.1", 8901, "emulator")
    emulated = api(Far(None), emulator="http://127.0.0.1:8900").ssh_target("198.18.0.2")
    assert SshTarget("198.18.0.2", jump=gateway, workspace="workspace") == emulated
    assert SshTarget("198.18.0.2", 2222, "ubuntu") == api(Far(None)).ssh_target("198.18.0.2", 2222, "ubuntu")


def test_paths_lead_into_objects_and_lists() -> None:
    body: JsonValue = {"a": [{"b": 1}, {"b": 2}]}

    assert (2, None, None, body) == (dig(body, "a.1.b"), dig(body, "a.2.b"), dig(body, "a.x"), dig(body, ""))
