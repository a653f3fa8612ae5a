"""A plan as a page: Markdown for pull requests, HTML in one file for everyone else. Called by `show`."""

import re
from collections.abc import Iterator
from html import escape

from gpuplan.cli.render.changes import because, gather, shown_changes, summary
from gpuplan.cli.render.plan import PlanView, action_words, group_text, render_plan
from gpuplan.cli.render.text import cell, clean
from gpuplan.core.diagnostics import Locator
from gpuplan.core.encoding import encode_time
from gpuplan.core.plan import Plan

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } pre { background: #f6f6f4; padding: .8rem; overflow-x: auto; }
summary { cursor: pointer; font-family: ui-monospace, monospace; padding: .2rem 0; }
.create { color: #16702b; } .delete { color: #a11; } .update, .replace { color: #8a5a00; } .note { color: #666; }
@media (prefers-color-scheme: dark) {
  body { background: #16181a; color: #ddd; } pre { background: #202326; }
  .create { color: #6c6; } .delete { color: #f77; } .update, .replace { color: #db6; }
}"""


def plan_markdown(plan: Plan, locator: Locator | None) -> str:
    """The summary, a row for each group of changes, and the whole text folded away."""
    lines = [f"### {cell(summary(plan))}", ""]
    groups = gather(shown_changes(plan))
    if groups:
        lines += ["| | what | | why |", "|---|---|---|---|"]
    for group in groups:
        why = "; ".join([*because(group.first), *(reason.path for reason in group.first.reasons if reason.path)])
        lines.append(f"| `{group.symbol.strip()}` | {cell(group.name)} | {action_words(group.first)} | {cell(why)} |")
    text = render_plan(plan, PlanView(locator))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    lines += ["", "<details><summary>The whole plan</summary>", "", f"{fence}text", text.rstrip("\n"), fence]
    return "\n".join([*lines, "", "</details>"]) + "\n"


def plan_html(plan: Plan, locator: Locator | None) -> str:
    """One page that needs nothing else: no script, no font, no network."""
    title = escape(f"{plan.project} / {plan.workspace}")
    body = [f"<h1>{escape(clean(summary(plan)))}</h1>", f'<p class="note">{title}, {encode_time(plan.made_at)}</p>']
    body += _sections(plan, locator)
    head = f'<meta charset="utf-8">\n<title>gpuplan: {title}</title>\n<style>\n{_STYLE}\n</style>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{chr(10).join(body)}\n</body>\n</html>\n'
    )


def _sections(plan: Plan, locator: Locator | None) -> Iterator[str]:
    view = PlanView(locator)
    for group in gather(shown_changes(plan)):
        head = f"{group.symbol} {clean(group.name)} {action_words(group.first)}"
        text = escape(group_text(group, view))
        kind = group.first.action.value
        yield f'<details><summary class="{kind}">{escape(head)}</summary><pre>{text}</pre></details>'
    rest = render_plan(plan, view)
    yield f"<details><summary>The whole plan as text</summary><pre>{escape(rest)}</pre></details>"
