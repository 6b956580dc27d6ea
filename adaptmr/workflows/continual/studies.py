"""The scans of tasks, opened or simulated."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from adaptmr.continual.study import Study
from adaptmr.data.fastmri import write_scan
from adaptmr.data.participants import Part, write_participants
from adaptmr.data.simulation import simulate_scan
from adaptmr.errors import BadInputError
from adaptmr.workflows.bank_training.steps import Steps
from adaptmr.workflows.continual.config import LabelledScans, SimulatedStudy, StudyConfig
from adaptmr.workflows.progress import track


class Studies:
    """Studies, each opened once.

    Args:
        steps: keeps what is simulated.
        parts: of simulated studies nobody else is simulated.
    """

    def __init__(self, steps: Steps, parts: Collection[Part]) -> None:
        self._steps = steps
        self._parts = [part for part in Part if part in parts]
        self._open: dict[Path, Study] = {}

    def __call__(self, config: StudyConfig) -> Study:
        """The study of a configuration.

        Raises:
            BadInputError: its scans or its table cannot be used.
        """
        folder = config.folder if isinstance(config, LabelledScans) else self._simulated(config)
        if folder not in self._open:
            self._open[folder] = Study.open(folder)
        return self._open[folder]

    def _simulated(self, config: SimulatedStudy) -> Path:
        wanted = [(n, part) for n, part in subjects(config) if part in self._parts]

        def compute(result: Path, _: Path) -> None:
            rows: dict[str, tuple[str, Part, dict[str, Any]]] = {}
            for number, part in track(wanted, "simulating", len(wanted)):
                contrasts = config.simulation.contrasts
                for contrast in contrasts if not config.simulation.anatomy else (None,):
                    scan, truth = simulate_scan(config.simulation, number, contrast)
                    write_scan(
                        scan,
                        result / scan.name,
                        extra_datasets=truth.datasets,
                        extra_attributes=truth.attributes,
                    )
                    subject = scan.header.subject or scan.name
                    before = rows.setdefault(subject, (subject, part, truth.attributes))[1]
                    if before is not part:
                        raise BadInputError(
                            "a volume would be in two parts of the simulated study",
                            file=str(truth.attributes.get("anatomy")),
                            field="parts",
                            got=f"{before} and {part}",
                            hint="Give as many volumes as there are subjects in all parts",
                        )
            write_participants(result, list(rows.values()))

        reads = {**config.model_dump(mode="json"), "parts": [[n, part] for n, part in wanted]}
        return self._steps.done("simulated", 1, reads, (), compute).folder


def subjects(config: SimulatedStudy) -> Iterator[tuple[int, Part]]:
    """Number and part of each simulated subject."""
    parts = [part for part, count in config.parts.items() for _ in range(count)]
    return enumerate(parts)
