"""The gates: planted faults are stopped by name and by how much, and what is good passes."""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_evidence import SUBJECTS, cases, covering, evidence, gates, measurement, scores
from pydantic import ValidationError

from adaptmr.workflows.gates.comparison import Bounded, holm, paired, worst_decile
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.evidence import Better, Evidence
from adaptmr.workflows.gates.judge import judge
from adaptmr.workflows.gates.page import write_page
from adaptmr.workflows.gates.result import ALL, Check, Gate, GateReport

SERVING = scores()


def found(report: GateReport, gate: Gate, **where: str) -> Check:
    """The one check of a gate there."""
    (one,) = (
        check
        for check in report.checks
        if check.gate is gate and all(getattr(check, k) == v for k, v in where.items())
    )
    return one


def failed(report: GateReport) -> set[Gate]:
    return {check.gate for check in report.checks if check.verdict is Verdict.FAIL}


def test_a_better_bank_passes() -> None:
    noise = 0.001 * np.random.default_rng(1).standard_normal(SUBJECTS)
    report = judge(
        gates(improves=("knee",)),
        evidence({"knee": SERVING + 0.01 + noise}),
        evidence({"knee": SERVING}, "champion"),
    )
    assert report.verdict is Verdict.PASS
    assert report.reasons == ()
    assert report.champion == "champion"
    assert {c.stratum for c in report.checks if c.gate is Gate.NON_INFERIORITY} == {ALL, "T1", "T2"}


def test_an_equal_bank_passes_but_does_not_improve() -> None:
    serving = evidence({"knee": SERVING}, "champion")
    assert judge(gates(), evidence({"knee": SERVING}), serving).verdict is Verdict.PASS
    report = judge(gates(improves=("knee",)), evidence({"knee": SERVING}), serving)
    assert failed(report) == {Gate.BENEFIT}


def test_a_planted_regression_is_stopped_and_told_by_how_much() -> None:
    report = judge(
        gates(),
        evidence({"knee": SERVING - 0.02, "brain": SERVING}),
        evidence({"knee": SERVING, "brain": SERVING}, "champion"),
    )
    assert report.verdict is Verdict.FAIL
    assert failed(report) == {Gate.NON_INFERIORITY}
    check = found(report, Gate.NON_INFERIORITY, task="knee", stratum=ALL)
    assert check.value == pytest.approx(-0.02)
    assert check.limit == -0.005
    assert check.spare == pytest.approx(-0.015)
    assert "knee" in report.reasons[0]
    brain = found(report, Gate.NON_INFERIORITY, task="brain", stratum=ALL)
    assert brain.verdict is Verdict.PASS


def test_a_regression_of_one_stratum_is_stopped() -> None:
    harmed = SERVING.copy()
    harmed[1::2] -= 0.008  # T2 alone; the mean of all loses 0.004, within the margin
    report = judge(gates(), evidence({"knee": harmed}), evidence({"knee": SERVING}, "champion"))
    assert found(report, Gate.NON_INFERIORITY, stratum="T1").verdict is Verdict.PASS
    assert found(report, Gate.NON_INFERIORITY, stratum="T2").verdict is Verdict.FAIL


def test_lower_can_be_better() -> None:
    config = gates(metrics={"nmse": {"margin": 0.001, "floor": 0.05}})

    def bank(values: object, name: str) -> Evidence:
        one = measurement("knee", values, "nmse", better=Better.LOWER)
        return evidence({"knee": values}, name, measurements=(one,))

    serving = bank(np.full(SUBJECTS, 0.02), "champion")
    assert judge(config, bank(np.full(SUBJECTS, 0.01), "c"), serving).verdict is Verdict.PASS
    worse = judge(config, bank(np.full(SUBJECTS, 0.06), "c"), serving)
    assert failed(worse) == {Gate.NON_INFERIORITY, Gate.FLOOR}
    assert found(worse, Gate.FLOOR, stratum=ALL).spare == pytest.approx(-0.01)


def test_many_small_steps_down_are_forgetting() -> None:
    """Each version is within the margin of the one before; the last lost 0.012 in all."""
    config = gates(metrics={"ssim": {"margin": 0.005, "forgetting": 0.01}})
    history = [evidence({"knee": SERVING - 0.004 * step}, f"v{step}") for step in range(3)]
    report = judge(config, evidence({"knee": SERVING - 0.012}), history[-1], history)
    assert failed(report) == {Gate.FORGETTING}
    check = found(report, Gate.FORGETTING)
    assert check.value == pytest.approx(0.012)
    assert check.spare == pytest.approx(-0.002)


def test_history_counts_on_the_cases_that_both_saw() -> None:
    config = gates(metrics={"ssim": {"margin": 0.005, "forgetting": 0.01}})
    now = evidence({"knee": SERVING})
    better = measurement("knee", SERVING + 0.05)
    for common, verdict in ((0, Verdict.PASS), (7, Verdict.REVIEW), (8, Verdict.FAIL)):
        values = tuple(
            value if index < common else value.model_copy(update={"case": f"other-{index}"})
            for index, value in enumerate(better.values)
        )
        old = better.model_copy(update={"values": values})
        history = [evidence({"knee": SERVING}, "v0", measurements=(old,))]
        assert judge(config, now, now, history).verdict is verdict


def test_a_planted_calibration_drift_is_stopped() -> None:
    config = gates(coverage={"tolerance": 0.05})
    serving = evidence(
        {"knee": SERVING}, "c", intervals=(covering("knee", np.full(SUBJECTS, 0.91)),)
    )
    drifted = evidence({"knee": SERVING}, intervals=(covering("knee", np.full(SUBJECTS, 0.78)),))
    assert judge(config, serving, serving).verdict is Verdict.PASS
    report = judge(config, drifted, serving)
    assert failed(report) == {Gate.COVERAGE}
    check = found(report, Gate.COVERAGE, stratum=ALL)
    assert check.value == pytest.approx(0.78)
    assert check.spare == pytest.approx(-0.07)


def test_coverage_that_is_bought_by_width_is_stopped() -> None:
    config = gates(coverage={"tolerance": 0.05, "wider": 0.2})
    every = np.full(SUBJECTS, 0.9)
    serving = evidence({"knee": SERVING}, "c", intervals=(covering("knee", every, 0.1),))
    wide = evidence({"knee": SERVING}, intervals=(covering("knee", every, 0.15),))
    assert failed(judge(config, wide, serving)) == {Gate.WIDTH}
    none = judge(config, evidence({"knee": SERVING}), serving)
    assert failed(none) == {Gate.COVERAGE}


def test_the_worst_tenth_counts_by_itself() -> None:
    config = gates(metrics={"ssim": {"margin": 0.01, "worst_decile": 0.02}})
    harmed = SERVING + 0.002
    harmed[np.argsort(SERVING)[:2]] -= 0.05
    report = judge(config, evidence({"knee": harmed}), evidence({"knee": SERVING}, "champion"))
    assert Gate.WORST_DECILE in failed(report)


def test_images_that_contradict_the_data_are_stopped() -> None:
    def bank(level: float) -> Evidence:
        residual = measurement("knee", np.full(SUBJECTS, level), "residual", better=Better.LOWER)
        return evidence({"knee": SERVING}, residuals=(residual,))

    config = gates(residual_increase=0.1)
    assert judge(config, bank(0.105), bank(0.1)).verdict is Verdict.PASS
    report = judge(config, bank(0.13), bank(0.1))
    assert failed(report) == {Gate.RESIDUAL}
    assert found(report, Gate.RESIDUAL).spare == pytest.approx(-0.02)


def test_latency() -> None:
    config = gates(latency={"seconds_per_slice": 0.5})
    slow, fast, unknown = (
        evidence({"knee": SERVING}, seconds_per_slice=seconds) for seconds in (0.7, 0.4, None)
    )
    assert failed(judge(config, slow, None)) == {Gate.LATENCY}
    assert judge(config, fast, None).verdict is Verdict.PASS
    assert judge(config, unknown, None).verdict is Verdict.REVIEW
    assert slow.identity == fast.identity


@pytest.mark.parametrize("verdict", [Verdict.REVIEW, Verdict.FAIL])
def test_too_few_subjects_show_nothing(verdict: Verdict) -> None:
    config = gates(minimum_subjects=13, too_few=verdict)  # 24 in all, 12 of each contrast
    report = judge(config, evidence({"knee": SERVING + 1}), evidence({"knee": SERVING}, "champion"))
    assert report.verdict is verdict
    assert found(report, Gate.NON_INFERIORITY, stratum=ALL).verdict is Verdict.PASS
    assert found(report, Gate.NON_INFERIORITY, stratum="T1").verdict is verdict


def test_floors_hold_without_a_champion() -> None:
    config = gates(metrics={"ssim": {"margin": 0.0, "floor": 0.85}})
    assert judge(config, evidence({"knee": SERVING}), None).verdict is Verdict.PASS
    low = SERVING.copy()
    low[::2] -= 0.07  # T1 alone falls below
    assert {
        check.stratum
        for check in judge(config, evidence({"knee": low}), None).checks
        if check.verdict is Verdict.FAIL
    } == {"T1"}


WRONG = {
    "values that are not finite": evidence({"knee": [*SERVING[:-1], math.nan]}),
    "no values": evidence({"knee": []}),
    "a case twice": evidence(
        {"knee": SERVING},
        measurements=(measurement("knee", []).model_copy(update={"values": cases([0.9]) * 2}),),
    ),
    "a metric that the gates ask for is missing": evidence(
        {"knee": SERVING}, measurements=(measurement("knee", SERVING, "psnr"),)
    ),
    "subjects that were trained on": evidence({"knee": SERVING}, trained_on=("subject-3",)),
    "other data": evidence({"knee": SERVING}, data={"knee": "other"}),
    "a task that the champion has is missing": evidence({"brain": SERVING}),
    "other cases": evidence({"knee": SERVING[:-1]}),
    "another protocol": evidence(
        {"knee": SERVING}, measurements=(measurement("knee", SERVING, protocol="slice"),)
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_without_integrity_nothing_is_compared(what: str) -> None:
    report = judge(gates(), WRONG[what], evidence({"knee": SERVING}, "champion"))
    assert report.verdict is Verdict.FAIL
    assert failed(report) == {Gate.INTEGRITY} == {check.gate for check in report.checks}


def test_a_report_of_no_check_is_no_pass() -> None:
    assert (
        GateReport(
            candidate="c", champion=None, config="g", approvals=0, evidence="e", checks=()
        ).verdict
        is Verdict.FAIL
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.8, 0.99))
def test_holm_is_that_of_p_values(p_values: list[float], level: float) -> None:
    """A bound lies above its limit at a level just where p is below one minus that level."""

    @dataclass
    class Bound:
        p: float

        def __call__(self, at: float) -> float:
            return (1 - at) - self.p

    got = holm([Bound(p) for p in p_values], [0.0] * len(p_values), level)
    alpha, order = 1 - level, np.argsort(p_values)
    expected, going = [False] * len(p_values), True
    for rank, index in enumerate(order):
        threshold = alpha / (len(p_values) - rank)
        if abs(p_values[index] - threshold) < 1e-9:
            return  # a matter of rounding
        going = going and p_values[index] < threshold
        expected[index] = going
    assert [one.shown for one in got] == expected


def test_holm_of_one_is_the_bound_itself() -> None:
    assert holm([lambda level: level], [0.9], 0.95) == (Bounded(True, 0.95, 0.95),)


@settings(max_examples=20)
@given(st.permutations(range(SUBJECTS)))
def test_the_order_of_the_cases_does_not_matter(order: list[int]) -> None:
    one, other = measurement("knee", SERVING), measurement("knee", SERVING + 0.01)
    mixed = other.model_copy(update={"values": tuple(other.values[i] for i in order)})
    config = gates()
    assert paired(mixed, one, ALL).bound(0.95, config) == pytest.approx(
        paired(other, one, ALL).bound(0.95, config)
    )


def test_error_rate_of_the_gate() -> None:
    """A bank that is worse by the margin passes in about 5 % of the trials, and not in many."""
    config = gates(metrics={"ssim": {"margin": 0.005}}, resamples=1000)
    passed = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        change = -0.005 + 0.01 * generator.standard_normal(60)
        base = 0.9 + 0.02 * generator.standard_normal(60)
        pair = paired(measurement("k", base + change), measurement("k", base), ALL)
        passed += pair.bound(config.level, config) > -0.005
    assert passed <= 22  # 5 % of 200 is 10; the binomial has 22 with a chance below 0.0005


def test_worst_decile_is_of_at_least_one() -> None:
    assert worst_decile(np.array([3.0, 1.0, 2.0])) == 1.0
    assert worst_decile(np.arange(20.0)) == 0.5


def test_the_page_says_verdict_reason_and_number(tmp_path: Path) -> None:
    report = judge(
        gates(approvals=1),
        evidence({"knee": SERVING - 0.02}),
        evidence({"knee": SERVING}, "champion"),
    )
    path = tmp_path / "gates.html"
    write_page(report, path)
    text = path.read_text()
    assert "FAIL. The candidate fails; the bank that serves stays." in text
    assert "-0.0150" in text or "−0.0150" in text
    assert "knee, ssim, T1" in text
    assert GateReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    "wrong", [{"metrics": {}}, {"level": 0.4}, {"too_few": "pass"}, {"minimum": 3}]
)
def test_gates_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        gates(**wrong)


def test_the_fingerprint_is_of_every_value() -> None:
    every: list[GateConfig] = [
        gates(seed=seed, approvals=approvals) for seed, approvals in product((0, 1), (0, 1))
    ]
    assert len({one.fingerprint for one in every}) == 4
    assert gates().fingerprint == gates().fingerprint
