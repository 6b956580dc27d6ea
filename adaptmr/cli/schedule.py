"""The commands about what runs by itself."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Json, example, print_json
from adaptmr.errors import BadInputError, BusyError, GateError

if TYPE_CHECKING:
    from adaptmr.workflows.scheduling.schedules import Schedules

commands = typer.Typer(help="Run workflows at set times, or when scans ask.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--schedules", help="Folder of the schedules.")]
Name = Annotated[str, typer.Argument(help="Name of the schedule.")]
_DEFAULT = Path("schedules")
_SHOWN = 5


def _open(folder: Path) -> "Schedules":
    from adaptmr.workflows.scheduling.schedules import Schedules

    return Schedules(folder)


@commands.command(
    epilog=example(
        "adaptmr schedule add retrain.yaml --out retrain --cron '0 3 * * SUN' --tz Europe/Berlin"
    )
)
def add(
    workflow: Annotated[Path, typer.Argument(help="YAML file of a workflow.")],
    cron: Annotated[str, typer.Option(help="Minute, hour, day, month, day of the week.")],
    out: Annotated[Path, typer.Option(help="Folder that the workflow writes into.")],
    tz: Annotated[str, typer.Option(help="Time zone of the cron.")] = "UTC",
    name: Annotated[
        str | None, typer.Option(show_default="that of the file", help="Of the schedule.")
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(help="Folder of arriving scans: run only when they ask for it."),
    ] = None,
    new_subjects: Annotated[
        int | None, typer.Option(min=1, help="So many new subjects in --watch ask for a run.")
    ] = None,
    drift: Annotated[
        bool, typer.Option("--drift", help="Acquisitions in --watch that changed ask for a run.")
    ] = False,
    decisions: Annotated[
        Path | None, typer.Option(help="Folder of records of selection, watched for drift too.")
    ] = None,
    schedules: Folder = _DEFAULT,
    as_json: Json = False,
) -> None:
    """Have a workflow run by itself; says when it will."""
    from adaptmr.workflows.scheduling.cron import Cron
    from adaptmr.workflows.scheduling.watch import watching

    watched = watching(watch, new_subjects, drift=drift, decisions=decisions)
    moments = Cron.checked(cron, tz)
    schedule = _open(schedules).add(workflow, moments, out, name=name, watch=watched)
    following = [m.isoformat() for m in moments.next(datetime.now(UTC), _SHOWN)]
    if as_json:
        print_json({**schedule.model_dump(mode="json"), "next": following})
        return
    typer.echo(f"{schedule.name} {'looks' if watched else 'runs'} at")
    for moment in following:
        typer.echo(f"  {moment}")


@commands.command("list", epilog=example("adaptmr schedule list"))
def list_(schedules: Folder = _DEFAULT, as_json: Json = False) -> None:
    """The schedules, what they did last, and when they run next."""
    opened, now, rows = _open(schedules), datetime.now(UTC), []
    for one in opened.all():
        fired = opened.fired(one)
        rows.append(
            {
                **one.model_dump(mode="json"),
                "last": None if fired is None else fired.model_dump(mode="json"),
                "next": one.cron.next(now, 1)[0].isoformat(),
            }
        )
    if as_json:
        print_json({"schedules": rows})
        return
    for row in rows:
        last = row["last"]["at"] if row["last"] else "never"
        typer.echo(f"{row['name']}  {row['workflow']}  last {last}  next {row['next']}")


@commands.command("next", epilog=example("adaptmr schedule next retrain --count 3"))
def next_(
    name: Name,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = _SHOWN,
    schedules: Folder = _DEFAULT,
    as_json: Json = False,
) -> None:
    """The moments at which a schedule fires next."""
    schedule = _open(schedules).named(name)
    moments = [m.isoformat() for m in schedule.cron.next(datetime.now(UTC), count)]
    if as_json:
        print_json({"schedule": name, "next": moments})
        return
    for moment in moments:
        typer.echo(moment)


@commands.command(epilog=example("adaptmr schedule remove retrain"))
def remove(name: Name, schedules: Folder = _DEFAULT, as_json: Json = False) -> None:
    """Remove a schedule; what its workflow made stays."""
    _open(schedules).remove(name)
    if as_json:
        print_json({"removed": name})
        return
    typer.echo(f"{name} is removed")


@commands.command("run-due", epilog=example("adaptmr schedule run-due"))
def run_due(
    name: Annotated[
        list[str] | None, typer.Argument(help="Schedules.", show_default="all of them")
    ] = None,
    schedules: Folder = _DEFAULT,
    as_json: Json = False,
) -> None:
    """Run what is due, once for all moments missed; for cron, systemd or SLURM to call often."""
    from adaptmr.workflows.scheduling.due import by_command, run_due

    done = run_due(_open(schedules), by_command, names=name)
    if as_json:
        print_json({"schedules": [one.model_dump(mode="json") for one in done]})
    for one in done:
        code = one.exit_code
        ended = "" if code is None else f", exit code {code}"
        asked = f" ({one.trigger})" if one.trigger else ""
        if not as_json:
            due = "nothing due" if one.moment is None else f"due at {one.moment.isoformat()}"
            typer.echo(f"{one.schedule}: {due}{asked}{ended}")
        for line in (*one.said, *([one.problem] if one.problem else [])):
            typer.echo(f"adaptmr: {one.schedule}: {line}", err=True)
    _finish([one.exit_code for one in done], any(one.problem for one in done))


@commands.command(epilog=example("adaptmr schedule serve"))
def serve(schedules: Folder = _DEFAULT) -> None:
    """Run what is due, by Dagster's daemon, until it is stopped; in place of calling run-due."""
    from adaptmr.workflows.scheduling.daemon import serve

    raise typer.Exit(serve(schedules))


def _finish(codes: list[int | None], problem: bool) -> None:
    """End with the gravest of what happened."""
    bad = {code for code in codes if code}
    for code in (BadInputError.exit_code, GateError.exit_code, BusyError.exit_code):
        if code in bad or (problem and code == BadInputError.exit_code):
            raise typer.Exit(code)
    if bad:
        raise typer.Exit(1)
