import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,12}", fullmatch=True)
addresses = st.builds(
    Address,
    st.sampled_from(["clusters", "volumes", "services"]),
    names,
    st.none() | st.integers(0, 10**6) | st.text(),
    st.none() | st.integers(0, 10**6),
)


@given(addresses)
def test_printing_and_parsing_are_inverse(address: Address) -> None:
    assert address == Address.parse(str(address))


@pytest.mark.parametrize(
    "text", ["", "clusters", "clusters.", "clusters.a[", "clusters.a[-1]", "clusters.a.nodes[x]", "a b.c"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Address.parse(text)


def test_numbers_sort_as_numbers() -> None:
    nodes = [Address("clusters", "a", None, n) for n in (10, 2, 0)]

    assert [0, 2, 10] == [a.node for a in sorted(nodes, key=lambda a: a.order)]


def test_a_resource_covers_its_instances_and_a_node_only_itself() -> None:
    node = Address.parse('clusters.web["eu"].nodes[0]')

    assert Address.parse("clusters.web").covers(node)
    assert Address.parse('clusters.web["eu"]').covers(node)
    assert not Address.parse('clusters.web["us"]').covers(node)
    assert not Address.parse('clusters.web["eu"].nodes[1]').covers(node)
    assert not node.covers(node.block)
