import threading
from pathlib import Path

from gpuplan.net.ssh_hosts import KnownHosts, alias_of

KEY, OTHER = "ssh-ed25519 AAAAone", "ssh-ed25519 AAAAtwo"


def test_what_was_recorded_is_known_to_everybody(tmp_path: Path) -> None:
    path = tmp_path / "state" / "known_hosts"
    ours, theirs = KnownHosts(path), KnownHosts(path)

    assert [] == ours.keys("a")
    assert [KEY] == ours.record("a", KEY, "vultr\nclusters.a.nodes[0]")

    assert [KEY] == theirs.keys("a")
    assert "a ssh-ed25519 AAAAone vultr clusters.a.nodes[0]\n" == path.read_text()
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


def test_of_two_first_contacts_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    assert [KEY] == KnownHosts(path).record("a", KEY, "")

    assert [KEY] == KnownHosts(path).record("a", OTHER, "")


def test_a_forgotten_host_is_met_for_the_first_time_again(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    hosts, others = KnownHosts(path), KnownHosts(path)
    hosts.record("a", KEY, "")
    hosts.record("b", OTHER, "")
    assert [KEY] == others.keys("a")

    hosts.forget("a")
    hosts.forget("nobody")

    assert ([], [OTHER]) == (others.keys("a"), others.keys("b"))
    assert 0o600 == path.stat().st_mode & 0o777


def test_lines_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("# mine\n@revoked * ssh-ed25519 AAAA\n\n|1|salt|hash ssh-ed25519 AAAA\na ssh-rsa AAAAold\n")
    hosts = KnownHosts(path)

    hosts.record("b", KEY, "")
    hosts.forget("b")

    assert ["ssh-rsa AAAAold"] == hosts.keys("a")
    assert path.read_text().startswith("# mine\n@revoked")


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"

    def record(first: int) -> None:
        hosts = KnownHosts(path)
        for number in range(first, first + 50):
            hosts.record(f"host-{number}", KEY, "")

    threads = [threading.Thread(target=record, args=(50 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 400 == len(path.read_text().splitlines())


def test_a_node_has_a_name_of_its_own_in_every_account() -> None:
    names = {alias_of("a", "bc", ""), alias_of("ab", "c", ""), alias_of("a", "bc", "0"), alias_of("a", "bc", "1")}

    assert 4 == len(names)
