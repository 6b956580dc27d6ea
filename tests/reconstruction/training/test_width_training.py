"""Training the widths of intervals on the errors of networks."""

from pathlib import Path

import torch

from adaptmr.reconstruction.bank.inference import image_and_width
from adaptmr.reconstruction.calibration.region import object_region
from adaptmr.reconstruction.networks import checkpoint, width
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.networks.width import WidthConfig
from adaptmr.reconstruction.training.cohort import Cohort, open_scans
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Material, common_crop, validation_plans
from adaptmr.reconstruction.training.run import run_training
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.sources import FixedMask


def test_widths_cover_about_the_quantile_of_the_errors(scans_folder: Path, tmp_path: Path) -> None:
    from adaptmr.reconstruction.training.width_module import WidthTraining

    scans = tuple(scan for scan in open_scans(scans_folder) if scan.matrix == (24, 20))
    spec = MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2)
    masks = [make_mask(spec, (24, 20), seed=seed) for seed in (0, 1)]
    pairs = {
        mask: checkpoint.build(UNetConfig(channels=4, pools=2), seed).eval()
        for seed, mask in enumerate(masks)
    }
    before = [
        value.clone() for network in pairs.values() for value in network.state_dict().values()
    ]
    sources = tuple(map(FixedMask, masks))
    schedule = SeededSchedule(epochs=40, batch_size=2, learning_rate=1e-2, accelerator="cpu")
    network = width.build(WidthConfig(channels=4, pools=2), 0)
    out = run_training(
        schedule,
        Material(Cohort(scans, (), "some"), sources),
        tmp_path / "width",
        tmp_path / "run",
        lambda: WidthTraining(network, pairs, schedule, 0.9),
        width.save,
        overwrite=False,
        resume=True,
    )
    after = [value for network in pairs.values() for value in network.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    trained = width.load(out)
    covered = []
    with torch.inference_mode():
        for plan in validation_plans(scans, sources, 2):
            batch = plan.read()
            image, found = image_and_width(pairs[batch.mask], trained, batch.kspace, batch.mask)
            assert found is not None
            image, target = common_crop(image, batch.target)
            found, _ = common_crop(found, batch.target)
            covered.append(((target - image).abs() <= found)[object_region(image)])
    share = float(torch.cat(covered).double().mean())
    assert 0.75 < share < 0.99
