"""Drift for people: text, a Markdown summary, GitHub annotations. Called by `drift`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpuplan.cli.render.diagnostic import position
from gpuplan.cli.render.text import BOLD, RED, YELLOW, cell, clean, paint
from gpuplan.cli.render.value import show
from gpuplan.core.address import Address
from gpuplan.core.diagnostics import Locator, Span
from gpuplan.core.plan import Drift, DriftKind


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What was found, and what was looked at: `addresses` are all instances of the state."""

    drift: Sequence[Drift]
    addresses: Sequence[Address] = ()
    silenced: int = 0
    locator: Locator | None = None
    folder: str = "."
    """Where the spec lies, seen from where the command was started: what reads a report knows only that place."""

    @property
    def unreachable(self) -> bool:
        return any(item.kind is DriftKind.UNREACHABLE for item in self.drift)

    def span(self, item: Drift) -> Span | None:
        """Where the spec speaks of it: of the first changed attribute, else of the resource."""
        ats = [reason.at for reason in item.reasons if reason.at is not None] + [item.at]
        return next((span for at in ats if at is not None and (span := position(at, self.locator)) is not None), None)

    def path(self, span: Span) -> str:
        """The file of a span as others find it."""
        return str(PurePosixPath(self.folder, span.file))


def subject(item: Drift) -> str:
    """What drifted: an address, an object nobody claims, a provider."""
    if item.kind is DriftKind.ORPHANED:
        return f"{item.remote_id} at {item.provider}"
    return str(item.address) if item.address is not None else item.provider


def sentences(item: Drift) -> Iterator[str]:
    """What is the matter, one thing each: `image = "a" -> "b"`, `was deleted outside of gpuplan`."""
    for reason in item.reasons:
        yield f"{clean(reason.path)} = {show(reason.before)} -> {show(reason.after)}"
    if item.text or not item.reasons:
        yield clean(item.text or f"is {item.kind.value}")


def headline(report: DriftReport) -> str:
    """One line that says how it is."""
    looked = _counted(len(report.addresses), "instance")
    silenced = f" ({report.silenced} silenced by .driftignore)" if report.silenced else ""
    drifted = {subject(item) for item in report.drift if item.kind is not DriftKind.UNREACHABLE}
    found = f"{_counted(len(drifted), 'object')} of {looked} drifted" if drifted else f"no drift in {looked}"
    if report.unreachable:
        return f"Could not tell: not every provider answered; {found}{silenced}."
    return f"{found[:1].upper()}{found[1:]}{silenced}."


def drift_text(report: DriftReport, *, color: bool) -> str:
    lines = []
    for item in report.drift:
        span = report.span(item)
        where = f"  ({clean(span.file)}:{span.line})" if span is not None else ""
        style = RED if item.kind is DriftKind.UNREACHABLE else YELLOW
        name = paint(clean(subject(item)), BOLD, color=color)
        lines.append(f"{paint(item.kind.value, style, color=color)}: {name}{where}")
        lines += [f"    {sentence}" for sentence in sentences(item)]
    lines += [""] if lines else []
    lines.append(headline(report))
    return "\n".join(lines) + "\n"


def drift_markdown(report: DriftReport) -> str:
    """For a job summary or a pull request."""
    lines = ["## gpuplan drift", "", headline(report)]
    if report.drift:
        lines += ["", "| what | kind | how | where |", "|---|---|---|---|"]
    for item in report.drift:
        span = report.span(item)
        where = f"{cell(span.file)}:{span.line}" if span is not None else ""
        how = "<br>".join(cell(sentence) for sentence in sentences(item))
        lines.append(f"| {cell(subject(item))} | {item.kind.value} | {how} | {where} |")
    return "\n".join(lines) + "\n"


def github_annotations(report: DriftReport) -> str:
    """Workflow commands: GitHub shows them at the lines of the spec."""
    lines = []
    for item in report.drift:
        level = "error" if item.kind is DriftKind.UNREACHABLE else "warning"
        span = report.span(item)
        where = f"file={_property(report.path(span))},line={span.line},col={span.column}," if span is not None else ""
        title = _property(f"{item.kind.value}: {subject(item)}")
        lines.append(f"::{level} {where}title={title}::{_command('; '.join(sentences(item)))}")
    lines.append(headline(report))
    return "\n".join(lines) + "\n"


def _command(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _command(text).replace(":", "%3A").replace(",", "%2C")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
