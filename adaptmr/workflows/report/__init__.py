"""Reports: one self-contained HTML file that says what was done, how well, and with what."""

from adaptmr.workflows.report.document import (
    Column,
    Gallery,
    GalleryRow,
    Measured,
    Picture,
    Report,
    Row,
    Scale,
    Section,
    Table,
    Text,
    render_report,
    write_report,
)
from adaptmr.workflows.report.figures import interval_chart, line_chart
from adaptmr.workflows.report.sections import (
    MethodResult,
    comparison,
    data_section,
    facts,
    mask_gallery,
    metric_table,
)

__all__ = [
    "Column",
    "Gallery",
    "GalleryRow",
    "Measured",
    "MethodResult",
    "Picture",
    "Report",
    "Row",
    "Scale",
    "Section",
    "Table",
    "Text",
    "comparison",
    "data_section",
    "facts",
    "interval_chart",
    "line_chart",
    "mask_gallery",
    "metric_table",
    "render_report",
    "write_report",
]
