"""The adaptation of one network: what is learned, kept, resumed and refused."""

import shutil
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from training_scans import write_ellipses

from adaptmr.continual.adapt import adapter as adapters
from adaptmr.continual.adapt import network as adapt_module
from adaptmr.continual.adapt.adapter import Adapter, attach, fingerprint, layers_of
from adaptmr.continual.adapt.family import FAMILY, Strategy
from adaptmr.continual.adapt.network import AdaptationConfig, adapt_network, adapted
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.losses import pair_losses
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.cohort import Cohort, open_cohort
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask

MATRIX = (24, 20)
MASK = make_mask(
    MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2), MATRIX, seed=1
)


@pytest.fixture(scope="module")
def network() -> Network:
    return checkpoint.build(
        VarNetConfig(cascades=2, channels=4, pools=2, map_channels=4, map_pools=2), 0
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(4):
        write_ellipses(folder / f"{seed}.h5", f"subject-{seed}", seed, MATRIX)
    return open_cohort(folder, 0.25, 0)


def config(**changes: object) -> AdaptationConfig:
    values = {"epochs": 2, "batch_size": 2, "probe_epochs": 1, "accelerator": "cpu"}
    return AdaptationConfig.model_validate(values | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return adapters.load(folder).state_dict()


def assert_same(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_learns_and_comes_back(
    network: Network, cohort: Cohort, tmp_path: Path, strategy: Strategy
) -> None:
    identity = fingerprint(network)
    rate = 3 * FAMILY[strategy].learning_rate
    out = adapt_network(
        network,
        cohort,
        MASK,
        config(strategy=strategy, epochs=4, learning_rate=rate, batch_size=1),
        tmp_path / "out",
        tmp_path / "run",
    )
    assert fingerprint(network) == identity  # the network is the caller's
    adapter, history = adapters.load(out), adapters.provenance(out)
    assert (adapter.strategy, adapter.base) == (strategy, identity)
    curve = history["curve"]
    assert history["epoch"] == min(curve, key=lambda entry: entry["validation_loss"])["epoch"]
    assert not {*history["data"]["training_subjects"]} & {*history["data"]["validation_subjects"]}
    # The file gives what was measured in training, and it is better than before.
    after = pair_losses([adapted(network, adapter)], [MASK], cohort.validation)
    before = pair_losses([network], [MASK], cohort.validation)
    kept = curve[history["epoch"]]["validation_loss"]
    assert float(after.mean()) == pytest.approx(kept, rel=1e-4)
    assert float(before.mean()) == pytest.approx(history["before"], rel=1e-4)
    assert kept < history["before"]


def test_what_does_not_help_changes_nothing(
    network: Network, cohort: Cohort, tmp_path: Path
) -> None:
    spoilt = config(strategy=Strategy.FULL, learning_rate=3.0)
    out = adapt_network(network, cohort, MASK, spoilt, tmp_path / "out", tmp_path / "run")
    history = adapters.provenance(out)
    assert history["epoch"] == -1
    assert min(one["validation_loss"] for one in history["curve"]) > history["before"]
    image = cohort.training[0].kspace[:1]
    with torch.no_grad():
        assert torch.equal(adapted(network, adapters.load(out))(image, MASK), network(image, MASK))


def test_without_validation_the_last_epoch_is_kept(
    network: Network, cohort: Cohort, tmp_path: Path
) -> None:
    blind = replace(cohort, validation=())
    out = adapt_network(network, blind, MASK, config(), tmp_path / "out", tmp_path / "run")
    history = adapters.provenance(out)
    assert (history["epoch"], history["before"]) == (1, None)


@pytest.mark.parametrize(
    ("strategy", "acquired"), [(Strategy.CONTRIBUTION, True), (Strategy.SCALE_SHIFT, False)]
)
def test_a_stopped_adaptation_continues_as_if_it_had_not_stopped(
    network: Network, cohort: Cohort, tmp_path: Path, strategy: Strategy, acquired: bool
) -> None:
    def go(name: str, epochs: int, **options: bool) -> Path:
        wanted = config(strategy=strategy, epochs=epochs)
        out, run = tmp_path / name, tmp_path / f"{name}.run"
        return adapt_network(
            network, cohort, MASK, wanted, out, run, acquired=acquired, overwrite=True, **options
        )

    state = torch.get_rng_state()
    through = go("through", 3)
    go("stopped", 1)
    torch.rand(5)
    assert_same(go("stopped", 3), through)
    assert_same(go("stopped", 3, resume=False), through)
    torch.set_rng_state(state)


def test_another_network_does_not_continue(
    network: Network, cohort: Cohort, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    adapt_network(network, cohort, MASK, config(), out, run)
    other = checkpoint.build(network.config, 1)
    with pytest.raises(UsageError, match=r"base.*another value"):
        adapt_network(other, cohort, MASK, config(), out, run, overwrite=True)
    with pytest.raises(BadInputError, match="exists already"):
        adapt_network(network, cohort, MASK, config(), out, run)


def test_magnitudes_alone_do_not_teach(cohort: Cohort, tmp_path: Path) -> None:
    unet = checkpoint.build(UNetConfig(channels=4, pools=2), 0)
    with pytest.raises(UsageError, match=r"magnitudes.*UNetReconstructor.*VarNet"):
        adapt_network(
            unet, cohort, MASK, config(), tmp_path / "out", tmp_path / "run", acquired=True
        )
    adapt_network(unet, cohort, MASK, config(), tmp_path / "out", tmp_path / "run")


def test_a_loss_that_is_no_number(network: Network, cohort: Cohort, tmp_path: Path) -> None:
    wild = config(strategy=Strategy.FULL, learning_rate=1e30, epochs=5)
    with pytest.raises(BadInputError, match="not a number"):
        adapt_network(network, cohort, MASK, wild, tmp_path / "out", tmp_path / "run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_file_is_small_and_gives_the_same_back(
    network: Network, tmp_path: Path, strategy: Strategy
) -> None:
    adapter = Adapter(strategy, layers_of(network, 2), fingerprint(network), seed=5)
    with torch.no_grad():
        for number, each in enumerate(adapter.parameters()):
            each += 0.1 * torch.sin(number + torch.arange(each.numel())).view(each.shape)
    adapters.save(adapter, tmp_path / "one", {"by": "a test"})
    again = adapters.load(tmp_path / "one")
    assert again.layers == adapter.layers
    assert adapters.provenance(tmp_path / "one") == {"by": "a test"}
    for name, value in adapter.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    adapters.save(again, tmp_path / "two", {"by": "a test"})
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    kspace = torch.randn(1, 2, *MATRIX, dtype=torch.complex64)
    with torch.no_grad():
        first, second = (adapted(network, each)(kspace, MASK) for each in (adapter, again))
    assert torch.equal(first, second)


@pytest.mark.parametrize("file", ["adapter.json", "weights.safetensors", "manifest.json"])
def test_damage_is_told(network: Network, tmp_path: Path, file: str) -> None:
    adapter = Adapter(Strategy.LOW_RANK, layers_of(network, 2), fingerprint(network))
    adapters.save(adapter, tmp_path / "adapter", {})
    shutil.copytree(tmp_path / "adapter", tmp_path / "missing")
    (tmp_path / "missing" / file).unlink()
    with pytest.raises(BadInputError, match=file):
        adapters.load(tmp_path / "missing")
    content = bytearray((tmp_path / "adapter" / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "adapter" / file).write_bytes(content)
    with pytest.raises(BadInputError):
        adapters.load(tmp_path / "adapter")


def test_another_network_is_refused(network: Network, tmp_path: Path) -> None:
    other = checkpoint.build(network.config, 1)
    adapters.save(
        Adapter(Strategy.LOW_RANK, layers_of(network, 2), fingerprint(network)), tmp_path / "a", {}
    )
    with pytest.raises(BadInputError, match=r"base.*another network"):
        attach(other, adapters.load(tmp_path / "a"))


def test_what_begins_and_ends_a_training_can_travel(
    network: Network, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several devices are several processes, each of which begins for itself."""
    sent = []

    def instead(*arguments: object, **_: object) -> Path:
        sent.append(ForkingPickler.dumps(arguments[-2:]).tobytes())
        return tmp_path

    monkeypatch.setattr(adapt_module, "run_training", instead)
    adapt_network(network, cohort, MASK, config(), tmp_path / "out", tmp_path / "run")
    begin, export = ForkingPickler.loads(sent[0])
    training = begin()
    assert training.best["epoch"] == -1
    with torch.no_grad():
        for each in training.parameters():
            each += 0.01 * each.requires_grad
    export(training.reconstructor, tmp_path / "out", {}, overwrite=False)
    changes = adapters.load(tmp_path / "out").state_dict()
    assert all(bool(value.any()) for value in changes.values())
