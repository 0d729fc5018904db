"""A test split that a competition publishes without its labels."""

from textassay.config.schema import DataSection
from textassay.data.catalog import Form
from textassay.data.columns import find_text_in, label_column_of
from textassay.data.read import Rows, values

# What stands in place of the labels.
WITHHELD, NOTHING = {"-1"}, {None, ""}


def leave_out_unlabelled(
    files: dict[str, list[Rows]], section: DataSection, form: Form
) -> list[str]:
    """Take out a test split without labels, as competitions publish it; a note that says so.

    A file that the user names as the test rows must have them. DataError for one without texts.
    """
    told = section.label_column or form.label
    columns = [(rows, label_column_of(rows, told)) for rows in files.get("test", ())]
    labels = {value for rows, name in columns if name for value in values(rows.columns[name])}
    if (
        not columns
        or len(files) == 1
        or (section.test_file and labels != WITHHELD)
        or labels - WITHHELD - NOTHING
    ):
        return []
    for rows, _ in columns:  # what has no text either is another table
        find_text_in(rows, section.text_column or form.text)
    del files["test"]
    if not labels & WITHHELD:
        what = "labels" if any(name for _, name in columns) else "label column"
        return [f"{columns[0][0].file}: has no {what}, so it is left out"]
    return ["the published test split has its labels withheld (-1), so it is left out"]
