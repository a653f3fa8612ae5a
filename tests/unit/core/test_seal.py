from gpuplan.core.address import Address
from gpuplan.core.seal import opens, seal_attrs
from gpuplan.core.secret import Sealed, Secret

NODE = Address("clusters", "a", None, 0)
KEY = b"k" * 32


def sealed(value: str, path: str = "env") -> Sealed:
    found = seal_attrs({path: Secret(value)}, key=KEY, address=NODE)[path]
    assert isinstance(found, Sealed)
    return found


def test_a_secret_opens_only_what_was_sealed_from_it_with_the_same_key() -> None:
    assert opens(Secret("hf_canary"), sealed("hf_canary"), key=KEY)
    assert not opens(Secret("other"), sealed("hf_canary"), key=KEY)
    assert not opens(Secret("hf_canary"), sealed("hf_canary"), key=b"x" * 32)


def test_equal_secrets_look_different_in_different_places() -> None:
    assert sealed("hf_canary", "env") != sealed("hf_canary", "setup")


def test_secrets_are_sealed_at_every_depth_and_the_rest_is_shared() -> None:
    ports = [8000]
    attrs = seal_attrs(
        {"env": {"A": "1", "T": Secret("x")}, "command": ["run", Secret("x")], "ports": ports}, key=KEY, address=NODE
    )

    assert "canary" not in repr(attrs)
    assert [Sealed, Sealed] == [type(attrs["env"]["T"]), type(attrs["command"][1])]  # type: ignore[index,call-overload]
    assert attrs["ports"] is ports
