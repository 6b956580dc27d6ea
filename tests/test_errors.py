from pathlib import Path

import pytest

from adaptmr.errors import AdaptMRError, BadInputError, BusyError, GateError, UsageError


def test_message_has_all_parts_in_one_line() -> None:
    error = BadInputError(
        "values are\nnot finite",
        file="scan.h5",
        slice_index=3,
        field="kspace",
        got="2 NaN",
        expected="finite numbers",
        hint="Export it again",
    )
    assert str(error) == (
        "scan.h5, slice 3, field 'kspace': values are not finite"
        " (got 2 NaN; expected finite numbers). Export it again"
    )
    assert error.file == Path("scan.h5")
    assert error.slice_index == 3


def test_slice_zero_is_named() -> None:
    assert str(BadInputError("bad", slice_index=0)) == "slice 0: bad"


def test_message_without_parts_is_the_sentence() -> None:
    assert str(UsageError("no such method")) == "no such method"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(AdaptMRError, 1), (UsageError, 2), (BadInputError, 3), (GateError, 4), (BusyError, 75)],
)
def test_exit_codes(kind: type[AdaptMRError], code: int) -> None:
    assert kind.exit_code == code
    assert issubclass(kind, AdaptMRError)
