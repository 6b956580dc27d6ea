"""The ISMRMRD XML header, read into and written from the allow-listed `Header`.

Only the fields of `Header` cross this module, in both directions: names, dates, serial numbers and
free text of the source stay behind.
"""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from ismrmrd import xsd

from adaptmr.data.scan import Header
from adaptmr.errors import BadInputError

SIZE_LIMIT = 4 * 2**20
_PROTON_HZ_PER_TESLA = 42_577_478.5
_FASTMRI_ACQUISITIONS = frozenset(
    {"CORPD_FBK", "CORPDFS_FBK", "AXT1", "AXT1PRE", "AXT1POST", "AXT2", "AXFLAIR"}
)
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(frozen=True)
class ParsedXML:
    """What an ISMRMRD header says.

    Attributes:
        header: the allow-listed fields.
        trajectory: ``cartesian``, ``epi``, ``spiral``, ...; empty when not told.
        encodings: number of encoding spaces.
        calibration: ``embedded``, ``separate``, ...: where the calibration lines belong.
        partition_limits: first, central and last step of the second phase encode of a 3-D scan.
        parallel: acceleration by parallel imaging, 1 when not told.
    """

    header: Header
    trajectory: str
    encodings: int
    calibration: str
    partition_limits: tuple[int, int, int] | None
    parallel: float


def parse_xml(text: bytes | str) -> ParsedXML:
    """Read an ISMRMRD header, with or without its namespace; fields it lacks are None.

    Raises:
        BadInputError: it is not well-formed XML, too long, declares a document type or entities,
            or has a number that is none.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        if len(decoded) > SIZE_LIMIT:
            raise ValueError(f"{len(decoded):,} characters, at most {SIZE_LIMIT:,} are read")
        if "<!DOCTYPE" in decoded or "<!ENTITY" in decoded:
            raise ValueError("a document type or entity declaration")
        root = ET.fromstring(decoded)  # noqa: S314 - no document type, bounded size
        encodings = root.findall("{*}encoding")
        encoding = encodings[0] if encodings else ET.Element("encoding")
        return ParsedXML(
            header=_header(root, encoding),
            trajectory=(_text(encoding, "trajectory") or "").lower(),
            encodings=len(encodings),
            calibration=(_text(encoding, "parallelImaging/calibrationMode") or "").lower(),
            partition_limits=_limits(encoding, "encodingLimits/kspace_encoding_step_2"),
            parallel=_factor(encoding, "kspace_encoding_step_1")
            * _factor(encoding, "kspace_encoding_step_2"),
        )
    except (ValueError, ET.ParseError, RecursionError, OverflowError) as error:
        raise BadInputError(
            "the ISMRMRD header cannot be read", field="ismrmrd_header", got=error
        ) from error


def _header(root: ET.Element, encoding: ET.Element) -> Header:
    parameters = _user_parameters(root)
    protocol = _text(root, "measurementInformation/protocolName")
    return Header(
        acquisition=parameters.get("acquisition")
        or (protocol if protocol in _FASTMRI_ACQUISITIONS else None),
        subject=parameters.get("subject"),
        encoded_matrix=_matrix(encoding, "encodedSpace/matrixSize"),
        recon_matrix=_matrix(encoding, "reconSpace/matrixSize"),
        encoded_field_of_view=_lengths(encoding, "encodedSpace/fieldOfView_mm"),
        recon_field_of_view=_lengths(encoding, "reconSpace/fieldOfView_mm"),
        phase_limits=_limits(encoding, "encodingLimits/kspace_encoding_step_1"),
        phase_axes=2 if parameters.get("phase_axes") == "2" else 1,
        field_strength=_positive(root, "acquisitionSystemInformation/systemFieldStrength_T"),
        repetition_time=_positive(root, "sequenceParameters/TR"),
        echo_time=_positive(root, "sequenceParameters/TE"),
        inversion_time=_positive(root, "sequenceParameters/TI"),
        flip_angle=_positive(root, "sequenceParameters/flipAngle_deg"),
        orientation=parameters.get("orientation"),
    )


def _factor(encoding: ET.Element, axis: str) -> float:
    return _positive(encoding, f"parallelImaging/accelerationFactor/{axis}") or 1.0


def _user_parameters(root: ET.Element) -> dict[str, str]:
    """Values of the user parameters that carry fields of ours, where they are plain words."""
    entries = root.findall("{*}userParameters/{*}userParameterString")
    pairs = ((_text(entry, "name") or "", _text(entry, "value") or "") for entry in entries)
    return {
        name.removeprefix("adaptmr_"): value
        for name, value in pairs
        if name.startswith("adaptmr_") and _WORD.fullmatch(value)
    }


def _text(element: ET.Element, path: str) -> str | None:
    found = element.find("/".join("{*}" + part for part in path.split("/")))
    return None if found is None or found.text is None else found.text.strip()


def _number(element: ET.Element, path: str) -> float | None:
    text = _text(element, path)
    if not text:
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _positive(element: ET.Element, path: str) -> float | None:
    """A number; 0 is how the schema's required fields say that it is not known."""
    value = _number(element, path)
    return value if value is not None and value > 0 else None


def _matrix(element: ET.Element, path: str) -> tuple[int, int, int] | None:
    x, y, z = (_positive(element, f"{path}/{axis}") for axis in "xyz")
    return None if x is None or y is None else (int(x), int(y), int(z or 1))


def _lengths(element: ET.Element, path: str) -> tuple[float, float, float] | None:
    x, y, z = (_positive(element, f"{path}/{axis}") for axis in "xyz")
    return None if x is None or y is None or z is None else (x, y, z)


def _limits(element: ET.Element, path: str) -> tuple[int, int, int] | None:
    low, centre, high = (_number(element, f"{path}/{k}") for k in ("minimum", "center", "maximum"))
    return None if centre is None or high is None else (int(low or 0), int(centre), int(high))


def write_xml(
    header: Header,
    *,
    coils: int,
    slices: int = 1,
    partition_limits: tuple[int, int, int] | None = None,
) -> str:
    """The ISMRMRD XML (schema of MRD v1) that carries every field of ``header``.

    What the schema requires and ``header`` does not know (fields of view, proton frequency) is
    written as 0.

    Args:
        header: with ``encoded_matrix`` set.
        coils: number of receive channels.
        slices: number of slices.
        partition_limits: first, central and last step of the second phase encode, if there is one.
    """
    encoded = header.encoded_matrix or (0, 0, 0)
    phase_limits = header.phase_limits or (0, encoded[1] // 2, encoded[1] - 1)
    named = {
        "acquisition": header.acquisition,
        "subject": header.subject,
        "orientation": header.orientation,
        "phase_axes": "2" if header.phase_axes == 2 else None,
    }
    strings = [
        xsd.userParameterStringType(name=f"adaptmr_{name}", value=value)
        for name, value in named.items()
        if value is not None
    ]
    document = xsd.ismrmrdHeader(
        version=1,
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            systemFieldStrength_T=header.field_strength, receiverChannels=coils
        ),
        experimentalConditions=xsd.experimentalConditionsType(
            H1resonanceFrequency_Hz=round((header.field_strength or 0) * _PROTON_HZ_PER_TESLA)
        ),
        encoding=[
            xsd.encodingType(
                encodedSpace=_space(encoded, header.encoded_field_of_view),
                reconSpace=_space(header.recon_matrix or encoded, header.recon_field_of_view),
                encodingLimits=xsd.encodingLimitsType(
                    kspace_encoding_step_1=_limit(phase_limits),
                    kspace_encoding_step_2=_limit(partition_limits or (0, 0, 0)),
                    slice=_limit((0, slices // 2, slices - 1)),
                ),
                trajectory=xsd.trajectoryType.CARTESIAN,
            )
        ],
        sequenceParameters=xsd.sequenceParametersType(
            TR=_listed(header.repetition_time),
            TE=_listed(header.echo_time),
            TI=_listed(header.inversion_time),
            flipAngle_deg=_listed(header.flip_angle),
        ),
        userParameters=xsd.userParametersType(userParameterString=strings) if strings else None,
    )
    return str(xsd.ToXML(document, encoding="utf-8"))


def _limit(limits: tuple[int, int, int]) -> xsd.limitType:
    low, centre, high = limits
    return xsd.limitType(minimum=low, maximum=high, center=centre)


def _space(
    matrix: tuple[int, int, int], field_of_view: tuple[float, float, float] | None
) -> xsd.encodingSpaceType:
    x, y, z = field_of_view or (0.0, 0.0, 0.0)
    return xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=matrix[0], y=matrix[1], z=matrix[2]),
        fieldOfView_mm=xsd.fieldOfViewMm(x=x, y=y, z=z),
    )


def _listed(value: float | None) -> list[float]:
    return [] if value is None else [value]
