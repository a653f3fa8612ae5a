"""A plan as people read it, in the shape Terraform made familiar.

Called by `plan`, `apply`, `destroy` and `show`. A thousand equal nodes are one block.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuplan.cli.render.changes import (
    CREATE_FIRST,
    VERBS,
    Group,
    attribute_reasons,
    attributes,
    because,
    gather,
    is_gone,
    lacks_subject,
    ranges,
    shown_changes,
    summary,
)
from gpuplan.cli.render.diagnostic import position
from gpuplan.cli.render.drift import sentences, subject
from gpuplan.cli.render.text import BOLD, DIM, GREEN, RED, YELLOW, clean, pad, paint, width
from gpuplan.cli.render.value import flat, money, show
from gpuplan.core.diagnostics import At, Locator
from gpuplan.core.offers import Offer
from gpuplan.core.plan import Action, Change, Drift, Plan, Ranked, Reason
from gpuplan.core.values import Value
from gpuplan.workflow.planning import OutputChange

_LEGEND: Mapping[str, str] = {
    "  +": "create",
    "  ~": "update in-place",
    "  -": "destroy",
    "-/+": "destroy and then create replacement",
    CREATE_FIRST: "create replacement and then destroy",
    " <=": "wait until it is ready",
    "  .": "remove from the state only",
}
_STYLE = {"+": GREEN, "-": RED, "~": YELLOW, "/": YELLOW}
_MOST_REJECTED = 5


@dataclass(frozen=True, slots=True)
class PlanView:
    """What a plan is shown with."""

    locator: Locator | None = None
    outputs: Sequence[OutputChange] = ()
    color: bool = False
    emulator: str = ""
    """Where the emulator is that a rehearsal goes to."""


def render_plan(plan: Plan, view: PlanView) -> str:
    """The whole text, ending with a line end."""
    blocks = [*_rehearsal_block(plan, view), *_drift_block(plan.drift), *_change_blocks(plan, view)]
    if plan.is_empty and view.outputs:
        blocks.append("Only outputs change: applying this plan writes them into the state, and sends nothing.\n")
    else:
        blocks.append(paint(summary(plan), BOLD, color=view.color) + "\n")
    blocks += _outputs_block(view)
    blocks += _cost_block(plan)
    if plan.partial:
        blocks.append("The plan covers only what --target and --exclude left; the rest was not compared.\n")
    return "\n".join(blocks)


def _rehearsal_block(plan: Plan, view: PlanView) -> Iterator[str]:
    if view.emulator:
        where, workspace = clean(view.emulator), clean(plan.workspace)
        yield f"Rehearsal: every HTTP provider is the emulator at {where}, the workspace is `{workspace}`.\n"


def _change_blocks(plan: Plan, view: PlanView) -> Iterator[str]:
    groups = gather(shown_changes(plan))
    if not groups:
        return
    present = {group.symbol for group in groups}
    legend = [f"{symbol} {text}" for symbol, text in _LEGEND.items() if symbol in present]
    if legend:
        lines = "\n".join(_colored(line, view.color) for line in legend)
        yield f"Actions are indicated with the following symbols:\n{lines}\n"
    yield "gpuplan will perform the following actions:\n"
    for group in groups:
        yield group_text(group, view)


def group_text(group: Group, view: PlanView) -> str:
    """The block of one group; ends with a line end."""
    return "\n".join(_group_lines(group, view)) + "\n"


def _group_lines(group: Group, view: PlanView) -> Iterator[str]:
    change = group.first
    name = clean(group.name)
    if change.moved_from is not None:
        yield f"  # {clean(str(change.moved_from))} has moved to {name}"
        if change.action is Action.NO_OP:
            return
    yield f"  # {paint(name, BOLD, color=view.color)} {action_words(change)}"
    for sentence in because(change):
        yield f"  # (because {clean(sentence)})"
    yield _colored(f"{group.symbol} {name}{_how_many(group)}", view.color)
    match change.action:
        case Action.CREATE:
            yield from _attribute_lines(group, "+", view)
            yield from _place_lines(change.places, view)
        case Action.REPLACE:
            yield from _reason_lines(attribute_reasons(change), view)
            yield from _place_lines(change.places, view)
        case Action.DELETE:
            yield from _attribute_lines(group, "-", view)
        case _:
            yield from _reason_lines(attribute_reasons(change), view)


def action_words(change: Change) -> str:
    """What happens to it: `must be replaced`."""
    if change.action is Action.REPLACE and any(reason.text == "is tainted" for reason in change.reasons):
        return "is tainted, so must be replaced"
    if change.action is Action.FORGET and is_gone(change):
        return "is gone, and will be removed from the state"
    if change.import_id and change.action is Action.ADOPT:
        return f"will be imported from `{clean(change.import_id)}`"
    return VERBS[change.action]


def _how_many(group: Group) -> str:
    return f" ({group.size})" if group.size > 1 else ""


def _attribute_lines(group: Group, symbol: str, view: PlanView) -> Iterator[str]:
    change, size = group.first, group.size
    provider, attrs = attributes(change)
    rows: list[tuple[str, str]] = [("provider", clean(provider))]
    if change.action is Action.DELETE and change.prior is not None and size == 1:
        rows += [("id", show(change.prior.remote_id))]
    rows += [(clean(path), show(value)) for path, value in flat(attrs)]
    longest = max(width(path) for path, _ in rows)
    for path, text in rows:
        yield _colored(f"      {symbol} {pad(path, longest)} = {text}", view.color)


def _reason_lines(reasons: Iterable[Reason], view: PlanView) -> Iterator[str]:
    rows = [(clean(reason.path), reason) for reason in reasons]
    longest = max((width(path) for path, _ in rows), default=0)
    for path, reason in rows:
        symbol = "+" if reason.before is None else "-" if reason.after is None else "~"
        line = f"      {symbol} {pad(path, longest)} = {_difference(reason.before, reason.after)}"
        yield _colored(line, view.color) + paint(_remark(reason, view.locator), DIM, color=view.color)


def _remark(reason: Reason, locator: Locator | None) -> str:
    words = "forces replacement" if reason.forces_replace else "needs a stop" if reason.needs_stop else ""
    where = _where(reason.at, locator) if words else ""
    parts = [part for part in (words, clean(reason.text)) if part]
    return f" # {', '.join(parts)}{where}" if parts else ""


def _where(at: At | None, locator: Locator | None) -> str:
    span = position(at, locator) if at is not None else None
    return f" ({clean(span.file)}:{span.line})" if span is not None else ""


def _place_lines(places: tuple[Ranked, ...], view: PlanView) -> Iterator[str]:
    """The chosen offer and why others were not taken; silent where there was nothing to choose."""
    if not any(place.rejected or _has_price(place) for place in places):
        return
    chosen = next((place for place in places if not place.rejected), None)
    lines = [] if chosen is None else [f"at {_place(chosen)}"]
    others = [place for place in places if not place.rejected][1:]
    if others:
        lines.append(f"else {_place(others[0])}" + (f", or {len(others) - 1} more" if len(others) > 1 else ""))
    rejected = [place for place in places if place.rejected]
    lines += [f"not {_place(place)}: {clean(place.rejected)}" for place in rejected[:_MOST_REJECTED]]
    if len(rejected) > _MOST_REJECTED:
        lines.append(f"not {len(rejected) - _MOST_REJECTED} more places")
    for line in lines:
        yield paint(f"      # {line}", DIM, color=view.color)


def _has_price(place: Ranked) -> bool:
    return place.offer is not None and bool(place.offer.price_per_hour)


def _place(place: Ranked) -> str:
    offer = place.offer
    return clean(place.candidate.provider) + ("" if offer is None else f", {_offer(offer)}")


def _offer(offer: Offer) -> str:
    gpu = f"{offer.gpu}:{offer.gpu_count}" if offer.gpu else ""
    price = "no price told" if offer.price_per_hour is None else f"{money(offer.price_per_hour)} USD per hour"
    words = [offer.instance_type, gpu, offer.region, offer.pricing.value.replace("_", "-"), price]
    return ", ".join(clean(word) for word in words if word)


def _drift_block(drift: tuple[Drift, ...]) -> Iterator[str]:
    if drift:
        lines = "\n".join(_drift_lines(drift))
        yield f"Note: objects have changed outside of gpuplan:\n\n{lines}\n"


def _drift_lines(drift: tuple[Drift, ...]) -> Iterator[str]:
    """One line for each thing that happened, equal nodes together."""
    alike: dict[tuple[object, str], list[Drift]] = {}
    for item in drift:
        for sentence in sentences(item):
            block = subject(item) if item.address is None else item.address.block
            alike.setdefault((block, sentence), []).append(item)
    for (_, sentence), items in alike.items():
        nodes = sorted(
            item.address.node for item in items if item.address is not None and item.address.node is not None
        )
        first = items[0]
        many = len(items) > 1 and len(nodes) == len(items) and first.address is not None
        name = f"{first.address.block}.nodes[{ranges(nodes)}]" if many and first.address else subject(first)
        colon = "" if lacks_subject(sentence) else ":"
        yield f"  # {clean(name)}{colon} {sentence}"


def _outputs_block(view: PlanView) -> Iterator[str]:
    if not view.outputs:
        return
    longest = max(width(clean(change.name)) for change in view.outputs)
    lines = ["Changes to outputs:"]
    for name, before, after in view.outputs:
        symbol = "+" if before is None else "-" if after is None else "~"
        lines.append(_colored(f"  {symbol} {pad(clean(name), longest)} = {_difference(before, after)}", view.color))
    yield "\n".join(lines) + "\n"


def _difference(before: Value, after: Value) -> str:
    if before is None:
        return show(after)
    return f"{show(before)} -> {show(after)}"


def _cost_block(plan: Plan) -> Iterator[str]:
    before, after = plan.hourly_before, plan.hourly_after
    # Neither is known where nothing has a price, as on one's own machines.
    if before is not None and after is not None and (before or after):
        sign = "-" if after < before else "+"
        difference = f"{sign}{money(abs(after - before))}"
        yield f"Cost per hour: {money(before)} USD before, {money(after)} USD after, {difference} USD\n"


def _colored(line: str, color: bool) -> str:
    symbol = line.lstrip()[:1]
    mark = line.split(maxsplit=1)[0]
    return line.replace(mark, paint(mark, _STYLE[symbol], color=color), 1) if color and symbol in _STYLE else line
