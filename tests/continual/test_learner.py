import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import made_banks
import pytest
import torch
from made_tasks import made_mask, made_network, made_scan, made_scans, made_tasks

from adaptmr.continual import replay_files, stage_files
from adaptmr.continual.config import BufferConfig, LearnerConfig, Selection
from adaptmr.continual.erasure import erase
from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.results import Learned
from adaptmr.continual.strategies.base import StageWork, Strategy, Update
from adaptmr.continual.strategies.plain import Joint, Naive, PerTask
from adaptmr.continual.strategies.replaying import Most
from adaptmr.continual.task import Split, Task
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank.persistence import load as load_bank
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.sampling.frame import Positions

CONFIG = LearnerConfig(
    steps=4,
    every=2,
    batch_size=2,
    replay_batch_size=2,
    learning_rate=1e-3,
    selection=Selection.LAST,
    accelerator="cpu",
)
MOST = Most(every=2)


def learn(
    out: Path,
    strategy: Strategy = MOST,
    tasks: tuple[Task, ...] | None = None,
    config: LearnerConfig = CONFIG,
) -> Learned:
    learner = ContinualLearner(tasks or made_tasks()[:2], strategy, config)
    return learner.run(made_network(), made_mask(), out)


def hashes(out: Path) -> dict[str, str]:
    """Of networks, buffers and memories, by where they are."""
    parts = [*out.glob("*/network"), *out.glob("*/buffer")]
    return {part.relative_to(out).as_posix(): sha256(part / MANIFEST) for part in parts}


def test_a_sequence_and_again(tmp_path: Path) -> None:
    first = learn(tmp_path / "a", tasks=made_tasks()[:3])
    assert first.matrix.shape == (3, 3)
    assert [stage.record.task for stage in first.stages] == ["image", "tissue", "class"]
    assert first.full["image"].value == pytest.approx(1)
    assert first.zero_filled["image"].value < 1
    record = first.stages[2].record
    assert set(record.curve[0].scores) == {"image", "tissue", "class"}
    assert set(first.stages[1].record.curve[0].scores) == {"image", "tissue"}
    assert record.subjects == ("training-0", "training-1", "training-2")
    assert record.buffer_bytes == replay_files.load(first.stages[2].buffer).size > 0
    learn(tmp_path / "b", tasks=made_tasks()[:3])
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert len(hashes(tmp_path / "a")) == 6
    before = (tmp_path / "a" / "2" / "stage.json").stat().st_mtime_ns
    assert (learn(tmp_path / "a", tasks=made_tasks()[:3]).matrix == first.matrix).all()
    assert (tmp_path / "a" / "2" / "stage.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"stage of something else.*|field 'strategy'"):
        learn(tmp_path / "a", Most(every=3), made_tasks()[:3])


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_stopped_at_any_step_and_continued(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(tmp_path / "whole")
    updates = Most.updates

    def stopped(self: Most, stage: StageWork, step: int) -> Iterator[Update]:
        if step == stop:
            raise ZeroDivisionError
        return updates(self, stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(Most, "updates", stopped)
        with pytest.raises(ZeroDivisionError):
            learn(tmp_path / "parts")
    assert (tmp_path / "parts" / "1.run" / "last.ckpt").exists() == (stop >= CONFIG.every)
    assert not (tmp_path / "parts" / "1").exists()
    learn(tmp_path / "parts")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    assert not (tmp_path / "parts" / "1.run").exists()


@pytest.mark.slow
def test_killed_within_a_stage_and_run_again(tmp_path: Path) -> None:
    """The same hashes as without the kill, on one CPU."""
    here = Path(__file__)
    code = (
        "import sys; from pathlib import Path; import test_learner as t\n"
        "t.learn(Path(sys.argv[1]), config=t.CONFIG.model_copy(update={'steps': 40}))"
    )
    environment = {"PYTHONPATH": f"{here.parents[1]}:{here.parent}", "OMP_NUM_THREADS": "1"}

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", code, out], env=environment, stderr=subprocess.DEVNULL
        )

    assert start(tmp_path / "whole").wait() == 0
    killed = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "1.run" / "last.ckpt").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "1").exists()
    assert start(tmp_path / "killed").wait() == 0
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_the_test_split_has_no_part_in_the_weights(tmp_path: Path) -> None:
    tasks, others = made_tasks()[:2], made_scans()
    others[Split.TEST] = [made_scan(f"other-{i}", 60 + i) for i in range(2)]
    config = CONFIG.model_copy(update={"selection": Selection.ALL_TASKS})
    learn(tmp_path / "a", tasks=tasks, config=config)
    learn(tmp_path / "b", tasks=made_tasks(others)[:2], config=config)
    weights = [sha256(tmp_path / name / "1/network/weights.safetensors") for name in "ab"]
    assert weights[0] == weights[1]


def broken(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of these steps is not a number."""
    updates = Most.updates

    def changed(self: Most, stage: StageWork, step: int) -> Iterator[Update]:
        for update in updates(self, stage, step):
            yield Update(update.loss * float("nan")) if step in steps else update

    monkeypatch.setattr(Most, "updates", changed)


def test_one_loss_that_is_no_number_halves_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step_of = torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *given: object, **named: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step_of(self, *given, **named)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    broken({3}, monkeypatch)
    config = CONFIG.model_copy(update={"steps": 6})
    learned = learn(tmp_path, config=config)
    assert rates == [1e-3] * 3 + [5e-4] * 2
    record = learned.stages[1].record
    assert record.provenance["rate_halved_at"] == 3
    curve = {each.step: each.scores for each in record.curve}
    assert curve[4] == curve[2] != curve[6], "rolled back to the last block"


def test_a_second_one_stops_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken({3, 5}, monkeypatch)
    config = CONFIG.model_copy(update={"steps": 6})
    with pytest.raises(BadInputError, match=r"for the second time.*step 5, before in step 3"):
        learn(tmp_path, config=config)
    kept = torch.load(tmp_path / "1.run" / "last.ckpt", weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in kept["state_dict"].values())
    assert kept["adaptmr"]["curve"][-1]["step"] == 4
    assert (tmp_path / "0" / "network").is_dir()
    assert not (tmp_path / "1").exists()


def test_bounds_start_from_the_first_network(tmp_path: Path) -> None:
    tasks = made_tasks()[:3]
    apart = learn(tmp_path / "apart", PerTask(), tasks)
    alone = learn(tmp_path / "alone", Naive(), (tasks[0], tasks[2]))
    together = learn(tmp_path / "together", Joint(), tasks)
    assert [stage.record.index for stage in apart.stages] == [0, 1, 2]
    assert [len(stage.record.curve[0].scores) for stage in apart.stages[1:]] == [1, 1]
    assert alone.matrix.shape == (2, 2)
    assert [stage.record.task for stage in together.stages] == ["image", "image+tissue+class"]
    assert together.stages[1].record.step == 2 * CONFIG.steps
    first = [checkpoint.load(each.stages[0].network) for each in (apart, together)]
    for network in first:
        assert all(
            torch.equal(value, network.state_dict()[name])
            for name, value in made_network().state_dict().items()
        )


def test_a_task_is_added_when_the_data_before_are_gone(tmp_path: Path) -> None:
    tasks = made_tasks()[:3]
    whole = learn(tmp_path / "whole", tasks=tasks)
    first = learn(tmp_path / "parts", tasks=tasks[:2])
    assert first.stages[1].record.scores.keys() == {"image", "tissue"}
    gone = [replace(t, examples={**t.examples, Split.TRAINING: ()}) for t in tasks[:2]]
    later = learn(tmp_path / "parts", tasks=(*gone, tasks[2]))
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "parts")
    assert (later.matrix == whole.matrix).all()


def test_an_erased_subject_is_gone_everywhere_and_cannot_come_back(tmp_path: Path) -> None:
    tasks = made_tasks()[:3]
    learn(tmp_path, tasks=tasks[:2])
    subject = replay_files.load(tmp_path / "1" / "buffer").items[0].subject
    for left in (tmp_path / ".2.killed" / "new", tmp_path / "2.run"):
        left.mkdir(parents=True)
        (left / "stage.json").write_text(subject)
    assert {folder.name for folder in erase(tmp_path, subject)} == {"0", "1"}
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert subject.encode() not in file.read_bytes()
    with pytest.raises(BadInputError, match="was erased"):
        learn(tmp_path, tasks=tasks)
    assert not erase(tmp_path, subject)
    cleared = tuple(
        replace(
            task,
            examples={
                split: tuple(each for each in some if each.subject != subject)
                for split, some in task.examples.items()
            },
        )
        for task in tasks
    )
    assert learn(tmp_path, tasks=cleared).matrix.shape == (3, 3)


def test_the_last_task_needs_no_room_in_the_buffer(tmp_path: Path) -> None:
    """MOST's buffer of four serves five tasks."""
    small = CONFIG.model_copy(update={"buffer": BufferConfig(capacity=2)})
    tasks = made_tasks()[:3]
    learned = learn(tmp_path, tasks=tasks, config=small)
    kept = [stage_files.load_buffer(stage) for stage in learned.stages]
    counts = [[len(of.of_task(task.name)) for task in tasks] for of in kept if of is not None]
    assert counts == [[2, 0, 0], [1, 1, 0], [1, 1, 0]]


def test_bad_sequences_are_refused(tmp_path: Path) -> None:
    tasks = made_tasks()
    small = CONFIG.model_copy(update={"buffer": BufferConfig(capacity=len(tasks) - 2)})
    with pytest.raises(BadInputError, match="smaller than the number of tasks"):
        ContinualLearner(tasks, MOST, small)
    ContinualLearner(tasks, Naive(), small)
    with pytest.raises(BadInputError, match="each with a name of its own"):
        ContinualLearner((tasks[0], tasks[0]), MOST, CONFIG)
    with pytest.raises(BadInputError, match="not the reconstruction"):
        ContinualLearner((tasks[1], tasks[0]), MOST, CONFIG)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_pair_of_a_bank_learns(tmp_path: Path) -> None:
    scans = made_banks.make_scans(tmp_path / "scans")
    parts = made_banks.make_parts(tmp_path, scans, Positions.LINES, 2)
    bank = made_banks.make_bank(tmp_path / "bank", parts, factor=2.0)
    tasks = made_tasks(made_scans(matrix=made_banks.MATRIX))[:2]
    out = tmp_path / "out"
    learned = ContinualLearner(tasks, MOST, CONFIG).run_bank(bank, out)
    assert [each.matrix.shape for each in learned] == [(2, 2)] * 2
    before, after = load_bank(bank), load_bank(out / "bank")
    assert after.masks.fingerprint == before.masks.fingerprint
    assert after.width is None and after.calibration is None
    for pair in range(2):
        network = after.networks[pair].state_dict()
        stage = checkpoint.load(learned[pair].stages[-1].network).state_dict()
        assert all(torch.equal(value, stage[name]) for name, value in network.items())
        old = before.networks[pair].state_dict()
        assert not all(torch.equal(value, old[name]) for name, value in network.items())
    assert bool(torch.isfinite(after.reconstruct(made_banks.scan_of(parts)).image[:]).all())
