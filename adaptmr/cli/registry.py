"""The commands about which bank serves: judged, registered, promoted, withdrawn."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json
from adaptmr.errors import BadInputError, GateError

if TYPE_CHECKING:
    from adaptmr.workflows.registry.registry import Registry

commands = typer.Typer(help="Which bank serves, which did, and why.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
By = Annotated[
    str | None,
    typer.Option(help="Who asks for it.", show_default="the account this runs under"),
]
Name = Annotated[str, typer.Argument(help="Version, the beginning of one, or an alias.")]
GatesFile = Annotated[Path, typer.Argument(help="YAML file of the tests and the gates.")]
_DEFAULT = Path("registry")


def _open(folder: Path, by: str | None = None) -> "Registry":
    from adaptmr.workflows.registry.registry import Registry

    return Registry(folder, by)


@commands.command(epilog=example("adaptmr registry freeze gates.yaml"))
def freeze(
    config: GatesFile, registry: Folder = _DEFAULT, by: By = None, as_json: Json = False
) -> None:
    """Note the hash of the gates in the log, before the training begins."""
    from adaptmr.workflows.config import load_config
    from adaptmr.workflows.registry.judging import JudgeConfig

    gates = load_config(config, JudgeConfig).gates
    _open(registry, by).freeze_gates(gates)
    fingerprint = gates.fingerprint
    _tell({"gates": fingerprint}, f"The gates {fingerprint[:16]} are frozen", as_json)


@commands.command(epilog=example("adaptmr registry gate bank --config gates.yaml --out judged"))
def gate(
    bank: Annotated[Path, typer.Argument(help="Folder of the candidate bank.")],
    config: Annotated[Path, typer.Option(help="YAML file of the tests and the gates.")],
    out: Out,
    registry: Folder = _DEFAULT,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure a candidate beside the bank that serves; exit 4 if it does not pass."""
    from adaptmr.data.files import require_absent
    from adaptmr.workflows.config import load_config
    from adaptmr.workflows.gates.config import Verdict
    from adaptmr.workflows.registry.judged import write_judged
    from adaptmr.workflows.registry.judging import JudgeConfig, judge_bank

    require_absent(out, overwrite=overwrite)
    evidence, report = judge_bank(bank, _open(registry), load_config(config, JudgeConfig))
    write_judged(out, evidence, report, overwrite=overwrite)
    if as_json:
        print_json({"verdict": report.verdict, **report.model_dump(mode="json")})
    else:
        typer.echo(report.verdict.upper())
        for reason in report.reasons:
            typer.echo(f"  {reason}")
        typer.echo(f"The report is {out / 'gates.html'}")
    if report.verdict is Verdict.FAIL:
        raise typer.Exit(GateError.exit_code)


@commands.command(epilog=example("adaptmr registry register bank --judged judged"))
def register(
    bank: Annotated[Path, typer.Argument(help="Folder of the bank.")],
    judged: Annotated[Path, typer.Option(help="Folder that `gate` wrote.")],
    registry: Folder = _DEFAULT,
    buffer: Annotated[
        Path | None, typer.Option(help="JSON list of the replay buffer it was trained with.")
    ] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Copy a bank in as a version that never changes; it becomes the challenger."""
    from adaptmr.workflows.registry.judged import read_judged
    from adaptmr.workflows.registry.version import Candidate

    evidence, gates = read_judged(judged)
    version = _open(registry, by).register(Candidate(bank, evidence, gates, buffer=buffer))
    _tell({"version": version}, f"The version is {version}", as_json)


@commands.command(
    epilog=example("adaptmr registry approve challenger --by 'A. Physicist' --reason 'seen'")
)
def approve(
    version: Name,
    by: Annotated[str, typer.Option(help="The person who approves.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    registry: Folder = _DEFAULT,
    as_json: Json = False,
) -> None:
    """Note that a person approves a version."""
    approved = _open(registry, by).approve(version, reason)
    _tell({"version": approved, "by": by}, f"{by} approves {approved}", as_json)


@commands.command(epilog=example("adaptmr registry promote challenger"))
def promote(
    version: Name = "challenger", registry: Folder = _DEFAULT, by: By = None, as_json: Json = False
) -> None:
    """Have a version serve; exit 4 if it may not."""
    champion = _open(registry, by).promote(version)
    _tell({"champion": champion}, f"{champion} serves", as_json)


@commands.command(epilog=example("adaptmr registry rollback champion --reason 'blurred knees'"))
def rollback(
    version: Name,
    reason: Annotated[str, typer.Option(help="Why, for the log.")],
    registry: Folder = _DEFAULT,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Withdraw the version that serves; the one before serves again."""
    champion = _open(registry, by).rollback(version, reason)
    _tell({"champion": champion}, f"{champion} serves again", as_json)


@commands.command("list", epilog=example("adaptmr registry list"))
def list_(registry: Folder = _DEFAULT, as_json: Json = False) -> None:
    """The versions, and which serves."""
    from adaptmr.workflows.registry.listing import listing

    rows = listing(_open(registry))
    if as_json:
        print_json({"versions": [row.model_dump(mode="json") for row in rows]})
        return
    for row in rows:
        marks = ", ".join((*row.aliases, *(["pruned"] if row.pruned else [])))
        typer.echo(
            f"{row.version}  {row.registered:%Y-%m-%d %H:%M}  {row.verdict.upper():6}"
            f"  {row.trigger}  {marks}".rstrip()
        )


@commands.command(epilog=example("adaptmr registry show champion"))
def show(version: Name, registry: Folder = _DEFAULT, as_json: Json = False) -> None:
    """The card of a version, and where its bank is."""
    from adaptmr.workflows.registry.version import BANK, read_version

    opened = _open(registry)
    folder = opened.version_folder(opened.state().resolved(version))
    described = read_version(folder)
    if as_json:
        told = {"version": folder.name, "folder": str(folder), "bank": str(folder / BANK)}
        print_json({**described.model_dump(mode="json"), **told})
    else:
        typer.echo((folder / "card.md").read_text(encoding="utf-8"))
        typer.echo(f"The bank is {folder / BANK}")


@commands.command(epilog=example("adaptmr registry verify"))
def verify(
    registry: Folder = _DEFAULT,
    head: Annotated[
        str | None, typer.Option(help="Hash of a log entry that you noted elsewhere.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="First take the aliases anew from the log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hash all files again, and check the chain of the audit log; exit 3 if anything is wrong."""
    from adaptmr.workflows.registry.verification import verify

    opened = _open(registry)
    if repair:
        opened.repair()
    found = verify(opened, head)
    _tell(
        found.model_dump(mode="json"),
        f"{found.versions} versions and {found.entries} log entries, {len(found.problems)} problems"
        f"\nNote this hash elsewhere: {found.head}",
        as_json,
    )
    for problem in found.problems:
        typer.echo(f"adaptmr: {problem}", err=True)
    if found.problems:
        raise typer.Exit(BadInputError.exit_code)


@commands.command(epilog=example("adaptmr registry prune --keep 10"))
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Newest versions kept, besides the aliases.")],
    registry: Folder = _DEFAULT,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Remove the banks of old versions; their records stay, and never what an alias names."""
    done = _open(registry, by).prune(keep)
    _tell({"pruned": list(done)}, f"{len(done)} versions pruned", as_json)


@commands.command(epilog=example("adaptmr registry audit"))
def audit(registry: Folder = _DEFAULT, as_json: Json = False) -> None:
    """Print the audit log, its chain checked."""
    entries = _open(registry).state().entries
    if as_json:
        print_json({"entries": [entry.model_dump(mode="json") for entry in entries]})
        return
    for entry in entries:
        details = ", ".join(f"{key} {value}" for key, value in entry.details.items())
        typer.echo(f"{entry.number}  {entry.time:%Y-%m-%d %H:%M:%S}  {entry.event}  {entry.by}")
        if details:
            typer.echo(f"    {details}")


@commands.command(epilog=example("adaptmr registry export https://mlflow.example.org"))
def export(
    uri: Annotated[
        str, typer.Argument(help="Address of an MLflow server, or sqlite:/// and a file.")
    ],
    registry: Folder = _DEFAULT,
    model: Annotated[str, typer.Option(help="Name of the registered model.")] = "adaptmr",
    as_json: Json = False,
) -> None:
    """Have MLflow know the versions, what the gates said and which serves; not the banks."""
    from adaptmr.workflows.registry.export import MlflowConfig, export

    told = export(_open(registry), MlflowConfig(uri=uri, model=model))
    count = len(told.versions)
    _tell(
        told.model_dump(mode="json"),
        f"MLflow knows {count} versions of {told.model}, {told.changes} changes told now",
        as_json,
    )


def _tell(value: dict[str, object], text: str, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(text)
