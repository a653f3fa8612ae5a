from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.encoding import decode_time, decode_value, encode_time, encode_value
from gpuplan.core.kinds import NodeAttrs, Port
from gpuplan.core.secret import Redactor, Sealed, Secret, seal
from gpuplan.core.units import Constraint, format_duration, parse_duration
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Value, has_unknown, is_static, resolve

VOLUME = Address("volumes", "data")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(UNKNOWN) | st.builds(Sealed, st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), inner),
    max_leaves=12,
)


class OneVolume:
    def remote_id(self, address: Address) -> str | None:
        return "vol-1" if address == VOLUME else None

    def view(self, resource: Address) -> Value:
        return {"id": self.remote_id(resource)}


@given(values)
def test_encoded_values_decode_to_themselves(value: Value) -> None:
    assert value == decode_value(encode_value(value))


def test_a_bare_secret_is_never_encoded() -> None:
    with pytest.raises(TypeError, match="sealed"):
        encode_value({"env": {"TOKEN": Secret("hf_canary")}})


def test_times_keep_their_zone() -> None:
    moment = datetime(2026, 11, 24, 12, 0, 0, 5, tzinfo=UTC)

    assert "2026-11-24T12:00:00.000005Z" == encode_time(moment)
    assert moment == decode_time(encode_time(moment))


def test_resolving_fills_references_and_shares_what_has_none() -> None:
    attrs: Value = {"image": "x", "volumes": [{"volume": Ref(VOLUME), "mount": "/data"}]}

    resolved = resolve(attrs, OneVolume())

    assert {"image": "x", "volumes": [{"volume": Ref(VOLUME, "vol-1"), "mount": "/data"}]} == resolved
    assert resolve(resolved, OneVolume()) is resolved


def test_a_deferred_expression_is_unknown_until_it_is_evaluated() -> None:
    deferred = Deferred("${volumes.data.id}", frozenset({VOLUME}), lambda scope: scope.remote_id(VOLUME) or UNKNOWN)

    assert has_unknown([deferred])
    assert not is_static(deferred)
    assert "vol-1" == resolve(deferred, OneVolume())


def test_secrets_show_nothing_and_seal_alike_only_under_the_same_salt() -> None:
    secret = Secret("hf_canary")

    assert "(sensitive)" == f"{secret}" == repr(secret)
    assert seal(secret, key=b"k", salt="a") == seal(secret, key=b"k", salt="a")
    assert seal(secret, key=b"k", salt="a") != seal(secret, key=b"k", salt="b")
    assert "hf_canary" not in repr(seal(secret, key=b"k", salt="a"))


def test_redactor_blanks_the_longest_secret_first() -> None:
    redact = Redactor(["token", "token-and-more"])

    assert "x ******** y ********" == redact("x token-and-more y token")


@given(st.integers(0, 10**7))
def test_durations_survive_a_round_trip(seconds: int) -> None:
    assert seconds == parse_duration(format_duration(seconds))


@pytest.mark.parametrize("text", ["", "12", "h", "1h x", "1.5.2h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_constraints_are_exact_or_lower_bounds() -> None:
    assert Constraint.parse(">=32").allows(48)
    assert not Constraint.parse(32).allows(48)


def test_adapters_read_attributes_with_types() -> None:
    node = NodeAttrs.of(
        {"gpu": "H100-80GB:8", "cpu": ">=32", "ports": [8000, "53/udp"], "env": {"A": Secret("x"), "B": 1}, "spot": {}}
    )

    assert node.gpu is not None
    assert ("H100-80GB", 8) == (node.gpu.name, node.gpu.count)
    assert (Port(8000), Port(53, "udp")) == node.ports
    assert {"A": Secret("x"), "B": "1"} == node.env
    assert node.spot is not None
