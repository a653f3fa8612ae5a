import pytest

from gpuplan.core.nearest import nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [("regoin", "region"), ("gpuu", "gpu"), ("cp", "cpu"), ("imgae", "image"), ("nodez", "nodes"), ("REGION", None)],
)
def test_word_within_two_edits_is_meant(word: str, meant: str | None) -> None:
    assert meant == nearest(word, ["gpu", "cpu", "region", "image", "nodes"])


def test_far_and_very_short_words_mean_nothing() -> None:
    assert nearest("quantity", ["gpu", "region"]) is None
    assert nearest("x", ["y", "xy"]) is None


def test_closest_one_wins_and_ties_go_by_name() -> None:
    assert "node" == nearest("nodee", ["nodes", "node"])
