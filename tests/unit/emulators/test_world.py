from gpuplan.emulators.world import Thing, World
from gpuplan.testing.clock import FakeClock


def thing(world: World, id: str, name: str, account: str = "ours") -> Thing:
    made = Thing("hetzner", "node", id, name, account, world.time.now(), {})
    world.add(made)
    return made


def named(world: World, name: str) -> Thing | None:
    return world.named("hetzner", "node", "ours", name)


def test_an_object_is_found_by_its_name_in_its_own_account_alone() -> None:
    world = World(FakeClock())
    thing(world, "1", "web", "theirs")
    ours = thing(world, "2", "web")

    assert ours is named(world, "web")
    assert [ours] == list(world.owned("hetzner", "node", "ours"))


def test_an_object_is_found_by_its_new_name_alone() -> None:
    world = World(FakeClock())
    first, second = thing(world, "1", "web"), thing(world, "2", "web")

    world.rename(first, "api")

    assert first is named(world, "api")
    assert second is named(world, "web")


def test_what_is_removed_leaves_its_name_to_others_even_if_it_is_renamed() -> None:
    world = World(FakeClock())
    gone = thing(world, "1", "web")

    world.remove(gone)
    world.rename(gone, "api")

    assert named(world, "web") is None
    assert named(world, "api") is None
    assert [] == list(world.owned("hetzner", "node", "ours"))
