"""What a scan's header says about the size and padding of its k-space, checked and filled in."""

from pathlib import Path

from adaptmr.data.scan import Header, Scan
from adaptmr.errors import BadInputError


def check_matrix(path: Path | str, header: Header, matrix: tuple[int, int]) -> None:
    """Refuse a header whose encoded matrix is not the array's (readout, phase).

    Raises:
        BadInputError: they disagree.
    """
    if header.encoded_matrix is not None and header.encoded_matrix[:2] != matrix:
        raise BadInputError(
            "the header disagrees with the k-space",
            file=path,
            field="encodedSpace.matrixSize",
            got=header.encoded_matrix[:2],
            expected=f"{matrix}, the k-space's (readout, phase)",
            hint="Correct the header, or remove it if the k-space is right",
        )


def padding_of(path: Path | str, header: Header, phase: int) -> tuple[int, int]:
    """The columns that exist, as fastMRI counts them from the encoding limits.

    ``left = phase // 2 - center``, ``right = left + maximum + 1``; all columns without limits.

    Raises:
        BadInputError: the limits reach outside the k-space.
    """
    if header.phase_limits is None:
        return 0, phase
    low, centre, high = header.phase_limits
    left = phase // 2 - centre
    right = left + high + 1
    if not (0 <= left < right <= phase and 0 <= low <= high):
        raise BadInputError(
            "the header disagrees with the k-space",
            file=path,
            field="encodingLimits.kspace_encoding_step_1",
            got=f"minimum {low}, center {centre}, maximum {high}: columns {left} to {right - 1}",
            expected=f"columns within 0 to {phase - 1}",
            hint="Correct the header, or remove it if the k-space is right",
        )
    return left, right


def header_of(scan: Scan) -> Header:
    """The header of a scan with matrix and phase limits filled in from the scan itself.

    Raises:
        BadInputError: the header disagrees with the k-space, or the padding covers its centre.
    """
    readout, phase = scan.matrix
    check_matrix(scan.name, scan.header, scan.matrix)
    left, right = scan.padding
    if not 0 <= left <= phase // 2 < right <= phase:
        raise BadInputError(
            "the padding covers the centre of k-space, or reaches outside",
            file=scan.name,
            field="padding",
            got=scan.padding,
            expected=f"a range within 0 to {phase} that holds {phase // 2}",
        )
    rows, columns = scan.matrix if scan.target is None else scan.target.shape[1:]
    return scan.header.model_copy(
        update={
            "encoded_matrix": scan.header.encoded_matrix or (readout, phase, 1),
            "recon_matrix": scan.header.recon_matrix or (rows, columns, 1),
            "phase_limits": (0, phase // 2 - left, right - left - 1),
        }
    )
