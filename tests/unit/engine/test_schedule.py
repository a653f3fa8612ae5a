from gpuplan.core.address import Address
from gpuplan.core.plan import Action, Operation
from gpuplan.engine.schedule import Schedule


def operation(name: str, *needs: str, provider: str = "here", action: Action = Action.CREATE) -> Operation:
    return Operation(name, action, Address("volumes", name), provider, needs=needs)


def join(name: str, *needs: str) -> Operation:
    return operation(name, *needs, provider="", action=Action.NO_OP)


def everywhere(provider: str) -> bool:
    return True


def ready(schedule: Schedule) -> list[str]:
    names = []
    while (following := schedule.next(everywhere)) is not None:
        names.append(following.id)
    return names


def test_the_longest_remaining_chain_goes_first() -> None:
    schedule = Schedule(
        [
            operation("a"),
            operation("b"),
            operation("c"),
            operation("b2", "b"),
            operation("b3", "b2"),
            operation("c2", "c"),
        ]
    )

    assert ["b", "c", "a"] == ready(schedule)


def test_equal_chains_keep_the_order_of_the_plan() -> None:
    assert ["a", "b", "c"] == ready(Schedule([operation(name) for name in "abc"]))


def test_an_operation_waits_for_all_it_needs() -> None:
    a, b = operation("a"), operation("b")
    schedule = Schedule([a, b, operation("c", "a", "b")])
    assert ["a", "b"] == ready(schedule)

    schedule.finished(a)
    assert [] == ready(schedule)
    schedule.finished(b)

    assert ["c"] == ready(schedule)


def test_joins_are_passed_without_being_carried_out() -> None:
    a = operation("a")
    schedule = Schedule([join("nothing"), a, join("j", "a", "nothing"), operation("b", "j")])
    assert ["a"] == ready(schedule)

    schedule.finished(a)

    assert ["b"] == ready(schedule)


def test_a_long_row_of_joins_is_no_long_row_of_calls() -> None:
    a = operation("a")
    joins = [join("j0", "a"), *(join(f"j{number}", f"j{number - 1}") for number in range(1, 5000))]
    schedule = Schedule([a, *joins, operation("z", "j4999")])
    ready(schedule)

    schedule.finished(a)

    assert ["z"] == ready(schedule)


def test_a_provider_without_room_does_not_hold_up_the_others() -> None:
    schedule = Schedule([operation("a", provider="full"), operation("b", provider="free"), operation("a2", "a")])

    following = schedule.next(lambda provider: provider == "free")

    assert following is not None
    assert "b" == following.id


def test_a_failure_drops_all_that_needs_it_and_says_why() -> None:
    a, x = operation("a"), operation("x")
    schedule = Schedule([a, x, operation("b", "a"), join("j", "b"), operation("c", "j"), operation("y", "x")])
    ready(schedule)

    dropped = schedule.failed(a)
    schedule.finished(x)

    assert [("b", "a"), ("c", "j")] == [(operation.id, because) for operation, because in dropped]
    assert ["y"] == ready(schedule)
    assert [] == schedule.rest()


def test_what_needs_two_failures_is_dropped_once() -> None:
    a, b = operation("a"), operation("b")
    schedule = Schedule([a, b, operation("c", "a", "b")])
    ready(schedule)

    assert 1 == len(schedule.failed(a))
    assert [] == schedule.failed(b)


def test_the_rest_is_what_was_neither_taken_nor_dropped() -> None:
    a = operation("a")
    schedule = Schedule([a, operation("b"), join("j", "a"), operation("c", "j")])
    schedule.next(everywhere)

    assert ["b", "c"] == [operation.id for operation in schedule.rest()]
