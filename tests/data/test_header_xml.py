import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ismrmrd import xsd
from made_scans import FULL_HEADER

from adaptmr.data.header_xml import parse_xml, write_xml
from adaptmr.data.scan import Header
from adaptmr.errors import BadInputError

sizes = st.tuples(*[st.integers(1, 60000)] * 3)
lengths = st.tuples(*[st.floats(0.5, 1e4, width=32)] * 3)
numbers = st.none() | st.floats(0.5, 1e5, width=32)
words = st.none() | st.from_regex(r"[A-Za-z0-9_.+-]{1,20}", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(
    header=st.builds(
        Header,
        acquisition=words,
        subject=words,
        encoded_matrix=sizes,
        recon_matrix=sizes,
        encoded_field_of_view=st.none() | lengths,
        recon_field_of_view=st.none() | lengths,
        phase_limits=st.tuples(*[st.integers(0, 60000)] * 3),
        phase_axes=st.sampled_from([1, 2]),
        field_strength=numbers,
        repetition_time=numbers,
        echo_time=numbers,
        inversion_time=numbers,
        flip_angle=numbers,
        orientation=st.sampled_from([None, "axial", "sagittal", "coronal"]),
    ),
    coils=st.integers(1, 128),
)
def test_every_field_travels(header: Header, coils: int) -> None:
    text = write_xml(header, coils=coils, slices=7, partition_limits=(1, 2, 3))
    parsed = parse_xml(text)
    assert parsed.header == header
    assert parsed.trajectory == "cartesian"
    assert parsed.partition_limits == (1, 2, 3)
    # The schema's own reader, which refuses what it does not know, agrees.
    document = xsd.CreateFromDocument(text)
    assert document.acquisitionSystemInformation.receiverChannels == coils
    assert document.encoding[0].encodedSpace.matrixSize.y == header.encoded_matrix[1]
    assert document.encoding[0].encodingLimits.slice.maximum == 6


def test_with_and_without_namespace() -> None:
    text = write_xml(FULL_HEADER.model_copy(update={"encoded_matrix": (8, 6, 1)}), coils=1)
    bare = text.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', "")
    assert bare != text
    assert parse_xml(bare) == parse_xml(text.encode())


@pytest.mark.parametrize(
    "value", ["Muster Maria", "<b>", "a" * 65, "", "ünicode", "new\nline", "../../etc"]
)
def test_free_text_in_our_own_parameters_is_not_read(value: str) -> None:
    text = (
        "<ismrmrdHeader><userParameters><userParameterString><name>adaptmr_subject</name>"
        f"<value>{value.replace('<', '&lt;')}</value></userParameterString></userParameters>"
        "</ismrmrdHeader>"
    )
    assert parse_xml(text).header.subject is None


def test_unknown_numbers_are_none() -> None:
    header = parse_xml(write_xml(Header(encoded_matrix=(8, 6, 1)), coils=1)).header
    assert header.encoded_field_of_view is None
    assert header.field_strength is None
    assert parse_xml("<ismrmrdHeader/>").header == Header()
    tr = "<ismrmrdHeader><sequenceParameters><TR>{}</TR></sequenceParameters></ismrmrdHeader>"
    for number in ("nan", "inf", "-5", "0", ""):
        assert parse_xml(tr.format(number)).header.repetition_time is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a>",
        "<!DOCTYPE a []><a/>",
        '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY l2 "&lol;&lol;">]><a>&l2;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b"\x00\xff",
        "<a>" + "x" * 5_000_000 + "</a>",
        "<ismrmrdHeader><sequenceParameters><TR>long</TR></sequenceParameters></ismrmrdHeader>",
    ],
)
def test_what_cannot_be_read(text: str | bytes) -> None:
    with pytest.raises(BadInputError, match="field 'ismrmrd_header'") as caught:
        parse_xml(text)
    assert len(str(caught.value)) < 300


def test_a_document_type_in_another_encoding_is_refused() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
    with pytest.raises(BadInputError):
        parse_xml(text.encode("utf-16"))
