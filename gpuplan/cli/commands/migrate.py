"""`gpuplan state migrate --to URL | --from URL`: take the state to another backend."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.state.registry import Place

TAKES = "--to URL | --from URL"


def migrate_flags(parser: Parser) -> None:
    parser.flag("--to", metavar="URL", dest="migrate_to", default="", help="migrate: where the state goes")
    parser.flag("--from", metavar="URL", dest="migrate_from", default="", help="migrate: where it comes from")
    parser.flag("--overwrite", action="store_true", help="migrate: an older copy of this state may be in the way")


def migrate(call: "Call") -> int:
    from gpuplan.workflow.migrating import migrate_state
    from gpuplan.workflow.places import place_of

    to, come = call.args.migrate_to, call.args.migrate_from
    if not to and not come:
        raise usage_error(f"`gpuplan state migrate` takes {TAKES}", hint="what is left away is what is configured")
    source, target = place_of(call.project, come), place_of(call.project, to)
    migrated = call.await_(
        migrate_state(
            call.project,
            call.clock,
            source=source,
            target=target,
            overwrite=call.args.overwrite,
            patience_seconds=call.args.lock_timeout,
        )
    )
    state = migrated.state
    if call.console.json:
        import json

        told = {"from": migrated.source, "to": migrated.target, "serial": state.serial, "lineage": state.lineage}
        call.console.out(json.dumps({**told, "instances": len(state.instances)}, indent=2))
        return 0
    what = "1 instance" if len(state.instances) == 1 else f"{len(state.instances)} instances"
    call.console.note(f"Moved {what}, serial {state.serial}, from `{migrated.source}` to `{migrated.target}`.")
    call.console.note("The old place keeps its copy, and says where the state is now.")
    if to:
        call.console.note(f"Say so in the spec:\n\n    {_block(target)}")
    return 0


def _block(place: "Place") -> str:
    """`state:` as a spec says it."""
    options = place.options.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return f"state: {{{', '.join(f'{name}: {value}' for name, value in {'type': place.type.name, **options}.items())}}}"
