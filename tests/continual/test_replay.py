from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_kspace import line_mask
from made_tasks import MATRIX, made_mask, made_scans, made_tasks

from adaptmr.continual import replay_files
from adaptmr.continual.config import BufferConfig, Policy, Store
from adaptmr.continual.replay import Item, Recorded, ReplayBuffer
from adaptmr.continual.task import Example, Split, Task
from adaptmr.errors import BadInputError

DEFAULT = BufferConfig()


def recorded(task: Task, factor: float = 0.5) -> Callable[[Example], Recorded]:
    def record(example: Example) -> Recorded:
        image = factor * example.target[:]
        return Recorded(image, None if task.network is None else task.network(image))

    return record


def filled(tasks: tuple[Task, ...], config: BufferConfig = DEFAULT, upto: int = 2) -> ReplayBuffer:
    buffer = ReplayBuffer(config, made_mask())
    for index, task in enumerate(tasks[:upto]):
        buffer = buffer.admit(task, recorded(task), np.random.default_rng(index))
    return buffer


def equal(first: Item, second: Item) -> bool:
    names = first.tensors.keys()
    return names == second.tensors.keys() and all(
        torch.equal(first.tensors[name], second.tensors[name]) for name in names
    )


def test_reallocation_over_stages_never_refreshes() -> None:
    tasks = made_tasks()
    before = filled(tasks, BufferConfig(capacity=4), 2)
    counts = [len({item.subject for item in before.of_task(task.name)}) for task in tasks]
    assert counts == [2, 2, 0, 0]
    after = before.admit(tasks[2], recorded(tasks[2], 7.0), np.random.default_rng(3))
    assert [len(after.of_task(task.name)) for task in tasks] == [1, 1, 2, 0]
    old = {(item.task, item.scan): item for item in before.items}
    for item in after.items:
        if item.task != "class":
            assert equal(item, old[item.task, item.scan])
        example = next(each for each in tasks[2].of(Split.TRAINING) if each.scan.name == item.scan)
        factor = 7.0 if item.task == "class" else 0.5
        assert torch.equal(item.recorded.reconstruction, factor * example.target[:])
    trained = {each.subject for each in tasks[0].of(Split.TRAINING)}
    assert {item.subject for item in after.items} <= trained


@pytest.mark.parametrize("store", Store)
@pytest.mark.parametrize("points", [False, True])
def test_kspace_comes_back_as_it_was_acquired(store: Store, points: bool) -> None:
    tasks = made_tasks()
    mask = made_mask()
    if points:
        positions = np.repeat(mask.positions[None], MATRIX[0], 0)
        positions[::2, ::3] = False
        positions[10:14, 8:12] = True
        mask = type(mask)(positions, (4, 4))
    buffer = ReplayBuffer(BufferConfig(capacity=3, store=store), mask)
    buffer = buffer.admit(tasks[1], recorded(tasks[1]), np.random.default_rng(0))
    batch = buffer.batch(tasks[1], 4, mask, np.random.default_rng(1))
    assert batch is not None and batch.recorded is not None
    assert batch.kspace.shape == (4, 2, *MATRIX)
    found = 0
    for example in tasks[1].of(Split.TRAINING):
        for index in range(2):
            at = [i for i in range(4) if torch.equal(batch.target[i], example.target[index])]
            for i in at:
                found += 1
                expected = mask.apply(example.scan.kspace[index])
                exact = store is Store.KSPACE
                assert torch.allclose(batch.kspace[i], expected, atol=0 if exact else 1e-5)
                assert torch.equal(batch.label[i], example.label[index])
                half = 0.5 * example.target[index]
                assert torch.equal(batch.recorded.reconstruction[i], half)
                logits = tasks[1].network(half[None])[0]
                assert torch.allclose(batch.recorded.logits[i], logits, atol=1e-6)
                assert float(batch.data_range[i]) == pytest.approx(example.data_range)
    assert found >= 4


def test_kspace_of_another_mask_is_not_made_up() -> None:
    tasks = made_tasks()
    other = line_mask(MATRIX[1], 4, seed=9)
    generator = np.random.default_rng(0)
    with pytest.raises(BadInputError, match="another mask"):
        filled(tasks).batch(tasks[1], 2, other, generator)
    images = filled(tasks, BufferConfig(store=Store.IMAGE))
    assert images.batch(tasks[1], 2, other, generator) is not None
    assert images.batch(tasks[3], 2, other, generator) is None


def test_volumes_come_whole() -> None:
    tasks = made_tasks(made_scans(slices=3))
    buffer = ReplayBuffer(BufferConfig(), made_mask())
    buffer = buffer.admit(tasks[3], recorded(tasks[3]), np.random.default_rng(0))
    batch = buffer.batch(tasks[3], 1, made_mask(), np.random.default_rng(0))
    assert batch is not None and batch.recorded is not None
    assert len(batch.kspace) == len(batch.data_range) == 3
    assert batch.label.shape == ()
    assert batch.recorded.logits.shape == (1, 1)


def test_limits() -> None:
    tasks = made_tasks()
    with pytest.raises(BadInputError, match="smaller than the number of tasks"):
        filled(tasks, BufferConfig(capacity=1))
    size = filled(tasks).size
    assert filled(tasks, BufferConfig(max_bytes=size)).size == size
    with pytest.raises(BadInputError, match="larger than allowed"):
        filled(tasks, BufferConfig(max_bytes=size - 1))
    gone = replace(tasks[0], examples={**tasks[0].examples, Split.TRAINING: ()})
    with pytest.raises(BadInputError, match="no training data"):
        filled((gone,), upto=1)


@pytest.mark.parametrize("policy", Policy)
def test_disk(policy: Policy, tmp_path: Path) -> None:
    tasks = made_tasks()
    buffer = filled(tasks, BufferConfig(policy=policy), 3)
    replay_files.save(buffer, tmp_path / "buffer")
    again = replay_files.load(tmp_path / "buffer")
    assert again.config == buffer.config and again.mask == buffer.mask
    assert again.listing() == buffer.listing()
    assert all(map(equal, again.items, buffer.items))
    first, second = (
        each.admit(tasks[3], recorded(tasks[3]), np.random.default_rng(5))
        for each in (buffer, again)
    )
    assert first.listing() == second.listing()
    file = next((tmp_path / "buffer" / "items").iterdir())
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BadInputError, match="altered"):
        replay_files.load(tmp_path / "buffer")


def test_listing_says_what_is_kept() -> None:
    buffer = filled(made_tasks())
    assert sum(entry.bytes for entry in buffer.listing()) == buffer.size
    assert {entry.task for entry in buffer.listing()} == {"image", "tissue"}
    assert {entry.slices for entry in buffer.listing()} == {2}


def test_an_erased_subject_leaves_no_trace_and_cannot_come_back(tmp_path: Path) -> None:
    tasks = made_tasks()
    buffer = filled(tasks)
    subject = buffer.items[0].subject
    others = [item for item in buffer.items if item.subject != subject]
    replay_files.save(buffer, tmp_path / "buffer")
    replay_files.save(buffer.erase(subject), tmp_path / "buffer", overwrite=True)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert subject.encode() not in file.read_bytes()
    erased = replay_files.load(tmp_path / "buffer")
    assert all(map(equal, erased.items, others))
    assert len(erased.items) == len(others)
    with pytest.raises(BadInputError, match="was erased"):
        erased.of_subject(subject)
    with pytest.raises(BadInputError, match="was erased"):
        erased.admit(tasks[2], recorded(tasks[2]), np.random.default_rng(0))
    assert erased.of_subject(others[0].subject)
    twice = erased.erase(others[0].subject)
    with pytest.raises(BadInputError, match="was erased"):
        twice.of_subject(subject)
