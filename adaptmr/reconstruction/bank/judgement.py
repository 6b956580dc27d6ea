"""The intervals of a bank held against the targets of scans that it reconstructed."""

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import BankReconstruction, stratum
from adaptmr.reconstruction.calibration.diagnostics import JudgedSlice, judge
from adaptmr.reconstruction.calibration.intervals import Interval
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.reconstruction.training.data import common_crop


def judge_scan(
    bank: ReconstructionBank, scan: Scan, result: BankReconstruction
) -> tuple[JudgedSlice, ...]:
    """Judge the intervals of all slices of a scan, one slice in memory at a time.

    Args:
        bank: what reconstructed the scan.
        scan: with a target, and outside everything that the bank was made from.
        result: the scan as the bank reconstructed it.

    Returns:
        One for each slice that shows an object; nothing where there are no intervals.
    """
    if result.lower is None or result.upper is None or bank.calibration is None:
        return ()
    assert scan.target is not None  # noqa: S101 - as asked for
    name = stratum(scan.header)
    used, why_pooled = bank.calibration.used(name)
    found: list[JudgedSlice] = []
    for index in range(scan.slices):
        target = scan.target[index][None]
        image, lower, upper = (
            common_crop(stack[index][None], target)[0]
            for stack in (result.image, result.lower, result.upper)
        )
        interval = Interval(lower, upper, bank.calibration.guarantee, used.subjects, why_pooled)
        found += judge(
            interval,
            image,
            common_crop(image, target)[1],
            subjects=[subject_of(scan)],
            stratum=name,
        )
    return tuple(found)
