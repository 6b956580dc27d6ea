"""The mask generators: budgets, densities, distances, and fastMRI's own masks."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from fastmri.data import subsample, transforms
from hypothesis import assume, given, settings
from pydantic import ValidationError
from scipy.spatial import cKDTree

from adaptmr.errors import AdaptMRError, BadInputError, UsageError
from adaptmr.sampling import draws
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask, centred_block

EXACT = [kind for kind in MaskKind if kind.exact]
FASTMRI = {
    MaskKind.FASTMRI_RANDOM: subsample.RandomMaskFunc,
    MaskKind.EQUISPACED: subsample.EquiSpacedMaskFunc,
    MaskKind.EQUISPACED_FRACTION: subsample.EquispacedMaskFractionFunc,
    MaskKind.MAGIC: subsample.MagicMaskFunc,
}
quick = settings(max_examples=25, deadline=None)
seeds = st.one_of(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4).map(tuple),
    st.text(min_size=1, max_size=20),
)


def made(kind: MaskKind, acceleration: float, matrix: tuple[int, int], **rest: object) -> Mask:
    fraction = rest.pop("center_fraction", None)
    seed = rest.pop("seed", 0)
    spec = MaskSpec(kind=kind, acceleration=acceleration, center_fraction=fraction)
    return make_mask(spec, matrix, seed=seed, **rest)


def test_every_kind_is_one_of_the_two_families() -> None:
    assert {kind for kind in MaskKind if not kind.exact} == set(FASTMRI)


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(
    matrix=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    acceleration=st.floats(1, 20),
    margins=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    seed=seeds,
)
def test_budget_is_exact(
    kind: MaskKind,
    matrix: tuple[int, int],
    acceleration: float,
    margins: tuple[int, int],
    seed: int | tuple[int, ...] | str,
) -> None:
    padding = (margins[0], matrix[1] - margins[1])
    assume(padding[0] < padding[1])
    exist = (padding[1] - padding[0]) * (matrix[0] if kind.axes == 2 else 1)
    try:
        mask = made(kind, acceleration, matrix, seed=seed, padding=padding)
    except AdaptMRError as error:
        # Only these: nothing to acquire, a rounded block above the budget, a block in the padding.
        block = np.prod([round(n * 0.32) for n in matrix[-kind.axes :]])
        assert round(exist / acceleration) <= max(block, 1) or "padding" in str(error)
        return
    assert mask.budget == round(exist / acceleration)
    assert mask.acceleration == pytest.approx(exist / round(exist / acceleration))
    assert mask.encoded.sum() == exist
    assert not (mask.positions & ~mask.encoded).any()
    assert mask.fits(matrix)
    assert mask.nominal_acceleration == acceleration
    assert Mask.from_json(mask.to_json()) == mask
    assert Mask.from_json(mask.to_json()).provenance == mask.provenance


@pytest.mark.parametrize("kind", list(MaskKind))
@pytest.mark.parametrize("matrix", [(320, 320), (230, 180), (256, 340), (96, 97), (33, 48)])
@pytest.mark.parametrize("acceleration", [2, 3, 4, 8, 10, 16, 20])
def test_usual_sizes_and_accelerations(
    kind: MaskKind, matrix: tuple[int, int], acceleration: int
) -> None:
    mask = made(kind, acceleration, matrix, seed="file1000001.h5")
    assert mask.positions[mask.block].all()
    if kind.exact:
        assert mask.budget == round(mask.positions.size / acceleration)
    if kind.axes == 1:
        assert mask.low_frequency == (round(matrix[1] * 0.32 / acceleration),)
    else:
        assert mask.low_frequency == tuple(round(size * 0.125) for size in matrix)


@pytest.mark.parametrize("kind", list(MaskKind))
def test_a_seed_means_one_mask_and_touches_nothing_else(kind: MaskKind) -> None:
    np.random.seed(3)  # noqa: NPY002 - the global state is what is tested
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = made(kind, 4, (64, 72), seed="a")
    assert first == made(kind, 4, (64, 72), seed=(97,))
    assert first == made(kind, 4, (64, 72), seed="a")
    others = {made(kind, 4, (64, 72), seed=seed).fingerprint for seed in range(20)}
    assert len(others) >= (2 if kind in FASTMRI else 20)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize(
    ("kind", "fingerprint"),
    [
        (MaskKind.RANDOM, "77eab82fc0d10d5a"),
        (MaskKind.VARIABLE_DENSITY_1D, "d9b99677e9aaf88c"),
        (MaskKind.FASTMRI_RANDOM, "8cc31cf403868039"),
        (MaskKind.EQUISPACED, "b9615847477b064b"),
        (MaskKind.EQUISPACED_FRACTION, "b1419b18acb2ad96"),
        (MaskKind.MAGIC, "0e8533379b13a6f2"),
        (MaskKind.RANDOM_2D, "0e06a2c610d65036"),
        (MaskKind.VARIABLE_DENSITY_2D, "ab55ade4a7a46f89"),
        (MaskKind.POISSON, "8d11c5c621e5d34d"),
    ],
)
def test_a_seed_means_the_same_mask_as_ever(kind: MaskKind, fingerprint: str) -> None:
    """A seed in an old report still makes the mask of that report."""
    assert made(kind, 4, (48, 40), seed="file1000000.h5").fingerprint.startswith(fingerprint)


# ---- fastMRI's masks


@pytest.mark.parametrize("kind", FASTMRI)
@settings(max_examples=150, deadline=None)
@given(
    columns=st.integers(8, 700),
    acceleration=st.integers(1, 20),
    fraction=st.sampled_from([0.0, 0.02, 0.04, 0.08, 0.16, 0.25]),
    seed=seeds,
    margins=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_fastmri_masks_are_fastmris(
    kind: MaskKind,
    columns: int,
    acceleration: int,
    fraction: float,
    seed: int | tuple[int, ...] | str,
    margins: tuple[int, int],
) -> None:
    central = round(columns * fraction)
    assume(central < columns / acceleration)
    padding = (margins[0], columns - margins[1])
    function = FASTMRI[kind]([fraction], [acceleration])
    numbers = tuple(map(ord, seed)) if isinstance(seed, str) else seed
    _, theirs, count = transforms.apply_mask(
        torch.ones(1, 1, columns, 2), function, seed=numbers, padding=padding
    )
    expected = theirs.reshape(columns).numpy() > 0
    arguments = {"center_fraction": fraction, "seed": seed, "padding": padding}
    if not expected.any():
        with pytest.raises(UsageError, match="acquires nothing"):
            made(kind, acceleration, (5, columns), **arguments)
        return
    ours = made(kind, acceleration, (5, columns), **arguments)
    assert np.array_equal(ours.positions, expected)
    assert ours.low_frequency == (count,)


def test_the_seed_of_a_file_is_fastmris() -> None:
    name = "file1000000.h5"
    function = subsample.RandomMaskFunc([0.08], [4])
    theirs, _ = function((1, 640, 368, 2), seed=tuple(map(ord, name)))
    ours = made(MaskKind.FASTMRI_RANDOM, 4, (640, 368), center_fraction=0.08, seed=name)
    assert np.array_equal(ours.positions, theirs.reshape(-1).numpy() > 0)


def test_equispaced_needs_a_whole_acceleration() -> None:
    for kind in (MaskKind.EQUISPACED, MaskKind.MAGIC):
        with pytest.raises(UsageError, match="whole acceleration"):
            made(kind, 2.5, (10, 64))
    assert made(MaskKind.EQUISPACED_FRACTION, 2.5, (10, 64)).budget == pytest.approx(25.6, abs=2)


# ---- densities


@pytest.mark.parametrize(
    ("acceleration", "published"),
    [(4, 0.0012357), (8, 0.0022424), (10, 0.0026809), (16, 0.0039153), (20, 0.0047223)],
)
def test_decay_of_the_published_density(acceleration: int, published: float) -> None:
    # Hong et al. 2024: 320 x 320, a 40 x 40 low-frequency block, its points not counted.
    outside = np.ones((320, 320), bool)
    outside[140:180, 140:180] = False
    power = draws.radius((320, 320))[outside] ** 1.5
    budget = 320 * 320 // acceleration - 1600
    c = draws.decay(power, budget)
    assert c == pytest.approx(published, abs=6e-8)
    assert np.exp(-c * power).sum() == pytest.approx(budget, rel=1e-9)


@quick
@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.floats(0, 1), st.booleans())
def test_decay_meets_the_count_wherever_it_can(
    shape: tuple[int, int], share: float, with_centre: bool
) -> None:
    power = draws.radius(shape).ravel() ** 1.5
    power = power if with_centre else power[power > 0]
    count = round(share * power.size)
    c = draws.decay(power, count)
    assert c >= 0
    total = np.exp(-c * power).sum()
    if count >= 2:
        assert total == pytest.approx(count, rel=1e-6)
    else:
        assert total <= 2


@pytest.mark.parametrize("kind", [MaskKind.VARIABLE_DENSITY_1D, MaskKind.VARIABLE_DENSITY_2D])
def test_variable_density_follows_its_law(kind: MaskKind) -> None:
    """Inclusion frequencies equal those of drawing one by one without replacement."""
    matrix = (12, 16)
    draws_made = 1500
    masks = [made(kind, 4, matrix, seed=seed, center_fraction=0.0) for seed in range(draws_made)]
    ours = np.mean([mask.positions for mask in masks], axis=0)
    power = draws.radius(ours.shape) ** 1.5
    weight = np.exp(-draws.decay(power.ravel(), masks[0].budget) * power).ravel()
    generator = np.random.default_rng(1)
    independent = np.zeros(weight.size)
    for _ in range(draws_made):
        index = generator.choice(
            weight.size, masks[0].budget, replace=False, p=weight / weight.sum()
        )
        independent[index] += 1 / draws_made
    # Both are means of 1500 draws: six standard errors of their difference.
    assert np.abs(ours.ravel() - independent).max() < 6 * (2 * 0.25 / draws_made) ** 0.5
    ring = np.round(draws.radius(ours.shape)).astype(int)
    means = [ours[ring == r].mean() for r in range(6)]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("kind", [MaskKind.RANDOM, MaskKind.RANDOM_2D])
def test_uniform_draws_are_uniform(kind: MaskKind) -> None:
    masks = [made(kind, 4, (8, 40), seed=seed).positions for seed in range(1500)]
    block = made(kind, 4, (8, 40))
    frequency = np.mean(masks, axis=0)
    outside = np.ones_like(masks[0])
    outside[block.block] = False
    expected = (block.budget - block.positions[block.block].size) / outside.sum()
    assert np.abs(frequency[outside] - expected).max() < 6 * (0.25 / 1500) ** 0.5


def test_a_weighted_draw_never_takes_what_has_no_weight() -> None:
    log_weight = np.log(np.arange(50.0), out=np.full(50, -np.inf), where=np.arange(50) > 0)
    log_weight[10:40] = -np.inf
    finite = np.isfinite(log_weight)
    for count in (0, 1, 5, int(finite.sum())):
        drawn = draws.weighted(log_weight, count, np.random.default_rng(0))
        assert drawn.sum() == count
        assert not (drawn & ~finite).any()
    # Weights far below the smallest float still rank.
    faint = np.linspace(-1e5, -2e5, 50)
    assert draws.weighted(faint, 10, np.random.default_rng(0))[:10].all()


# ---- Poisson disc


def nearest_distances(points: np.ndarray) -> np.ndarray:
    return cKDTree(points).query(points, k=2)[0][:, 1]


@pytest.mark.parametrize("matrix", [(128, 128), (121, 90)])
@pytest.mark.parametrize("acceleration", [3, 6, 12])
def test_poisson_discs_keep_their_distance(matrix: tuple[int, int], acceleration: int) -> None:
    mask = made(MaskKind.POISSON, acceleration, matrix, seed=1)
    scale = max(matrix) / np.array(matrix)
    distance = draws.radius(matrix) / max(matrix)
    ring = (distance > 0.35) & (distance < 0.5)
    points = np.argwhere(mask.positions & ring) * scale
    generator = np.random.default_rng(0)
    scattered = generator.permutation(np.argwhere(ring))[: len(points)] * scale
    # As many points as in the ring, but anywhere in it, lie in clumps and gaps.
    kept, random = nearest_distances(points), nearest_distances(scattered)
    assert kept.mean() > 1.15 * random.mean()
    assert kept.std() / kept.mean() < 0.8 * random.std() / random.mean()
    # The distance grows from the centre outwards.
    inner = np.argwhere(mask.positions & (distance > 0.08) & (distance < 0.2)) * scale
    assert nearest_distances(inner).mean() < kept.mean()


def test_poisson_density_is_smooth_from_the_block_outwards() -> None:
    masks = [made(MaskKind.POISSON, 5, (96, 96), seed=seed) for seed in range(20)]
    density = np.mean([mask.positions for mask in masks], axis=0)
    ring = np.round(draws.radius((96, 96))).astype(int)
    means = np.array([density[ring == r].mean() for r in range(48)])
    assert means[:6].min() == 1
    assert (np.diff(means) > -0.25).all()
    assert (np.diff(means) < 0.05).all()


@quick
@given(
    st.tuples(st.integers(4, 40), st.integers(4, 40)), st.floats(0.2, 8), st.integers(0, 2**32 - 1)
)
def test_darts_land_outside_the_radius_of_earlier_ones(
    shape: tuple[int, int], slope: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    order = generator.permutation(shape[0] * shape[1])
    radii = np.ceil((1 + slope * generator.random(shape)) * 16) / 16
    landed = draws._throw(order, radii, order.size)
    scale = max(shape) / np.array(shape)
    points = np.stack(np.unravel_index(landed, shape), axis=-1) * scale
    expected: list[int] = []
    kept = np.empty((0, 2))
    for flat in order:
        point = np.array(np.unravel_index(flat, shape)) * scale
        reach = radii.ravel()[expected]
        if (np.linalg.norm(kept - point, axis=1) >= reach - 1e-12).all():
            expected.append(int(flat))
            kept = np.vstack([kept, point])
    assert landed == expected
    assert len(points) == len(set(landed))


def test_poisson_density_resembles_sigpys() -> None:
    sigpy = pytest.importorskip("sigpy.mri")
    theirs = np.abs(
        sigpy.poisson((128, 128), 6, calib=(16, 16), crop_corner=False, seed=0, tol=0.2)
    )
    ours = made(MaskKind.POISSON, 6, (128, 128), seed=0).positions
    distance = draws.radius((128, 128))
    for inner, outer in [(12, 24), (24, 40), (40, 64), (64, 90)]:
        ring = (distance >= inner) & (distance < outer)
        assert ours[ring].mean() == pytest.approx(theirs[ring].mean(), rel=0.25)


# ---- refusals


@pytest.mark.parametrize("kind", list(MaskKind))
def test_a_block_above_the_budget_is_refused(kind: MaskKind) -> None:
    with pytest.raises(UsageError, match="low-frequency block alone exceeds"):
        made(kind, 8, (64, 64), center_fraction=0.5)


@pytest.mark.parametrize("kind", EXACT)
def test_a_block_that_is_the_budget_is_the_mask(kind: MaskKind) -> None:
    mask = made(kind, 4, (64, 64), center_fraction=0.25 if kind.axes == 1 else 0.5)
    assert mask.positions[mask.block].all()
    assert mask.budget == mask.positions[mask.block].size


@pytest.mark.parametrize("kind", list(MaskKind))
def test_full_sampling(kind: MaskKind) -> None:
    mask = made(kind, 1, (24, 25), seed=5)
    if kind is not MaskKind.EQUISPACED_FRACTION:  # fastMRI's never steps on the last column
        assert mask.positions.all() or kind is MaskKind.MAGIC


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"acceleration": 0.5}, "acceleration"),
        ({"acceleration": float("nan")}, "acceleration"),
        ({"acceleration": float("inf")}, "acceleration"),
        ({"center_fraction": -0.1}, "center_fraction"),
        ({"center_fraction": 1.1}, "center_fraction"),
        ({"kind": "spiral"}, "kind"),
        ({"radius": 3}, "radius"),
    ],
)
def test_bad_specifications_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MaskSpec.model_validate({"kind": "random", "acceleration": 4} | fields)


@pytest.mark.parametrize("seed", [-1, 2**32, (), "", (1, -2)])
@pytest.mark.parametrize("kind", [MaskKind.RANDOM, MaskKind.FASTMRI_RANDOM])
def test_bad_seeds_are_refused(kind: MaskKind, seed: object) -> None:
    with pytest.raises(UsageError, match="seed"):
        made(kind, 4, (64, 64), seed=seed)


@pytest.mark.parametrize("padding", [(-1, 64), (0, 65), (32, 32), (40, 20)])
def test_bad_padding_is_refused(padding: tuple[int, int]) -> None:
    with pytest.raises(BadInputError, match="padding"):
        made(MaskKind.RANDOM, 4, (64, 64), padding=padding)


def test_padding_over_the_centre_is_refused() -> None:
    for kind in (MaskKind.RANDOM, MaskKind.EQUISPACED, MaskKind.POISSON):
        with pytest.raises(BadInputError, match="reaches into the zero padding"):
            made(kind, 4, (64, 64), padding=(33, 64))


@pytest.mark.parametrize("matrix", [(0, 8), (8, 0), (8,), (1, 2, 3)])
def test_bad_matrices_are_refused(matrix: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match="matrix"):
        made(MaskKind.RANDOM, 4, matrix)


def test_nothing_to_acquire_is_refused() -> None:
    for kind in (MaskKind.RANDOM, MaskKind.POISSON):
        with pytest.raises(UsageError, match="acquires nothing"):
            made(kind, 20, (2, 3), center_fraction=0.0)


def test_block_is_where_fastmri_puts_it() -> None:
    for columns in range(8, 60):
        mask = made(MaskKind.RANDOM, 2, (4, columns), center_fraction=0.3)
        count = round(columns * 0.3)
        theirs = subsample.MaskFunc([0.3], [2]).calculate_center_mask((1, columns, 2), count)
        assert np.array_equal(
            np.flatnonzero(theirs), np.arange(columns)[centred_block(columns, count)]
        )
        assert mask.positions[theirs > 0].all()
