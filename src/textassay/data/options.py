"""What the user says about how files are written; everything else is found out from the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from textassay.config.schema import NO_CHARACTER, DataSection
from textassay.errors import UsageError

DELIMITED = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Settings of `DataSection` that say how files are written; None: found out from the file.

    `quotechar` and `escapechar` are one character, or NO_CHARACTER where the file has none.
    """

    column_names: list[str] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotechar: str | None = None
    escapechar: str | None = None
    skip_rows: int = 0

    @classmethod
    def of(cls, section: DataSection, column_names: list[str] | None = None) -> Self:
        """Return the options of a data section; `column_names` where it names none."""
        return cls(
            column_names=section.column_names or column_names,
            encoding=section.encoding,
            delimiter=section.delimiter,
            quotechar=section.quotechar,
            escapechar=section.escapechar,
            skip_rows=section.skip_rows,
        )

    @classmethod
    def of_flags(cls, reading: dict[str, Any]) -> Self:
        """Return the options that flags of a command say. UsageError for one that cannot be."""
        return cls.of(section_of_flags(**reading))

    def refuse_unused(self, paths: list[Path]) -> None:
        """UsageError for an option that none of the files, by their endings, can take."""
        suffixes = {path.suffix.lower() for path in paths}
        named = [name for name in ("delimiter", "quotechar", "escapechar", "skip_rows")
                 if getattr(self, name)]  # fmt: skip
        if named and not suffixes & set(DELIMITED):
            raise UsageError(
                f"--{named[0]}: is for CSV and TSV files, and {paths[0]} is none; leave it out."
            )
        if self.encoding and suffixes <= {".parquet"}:
            raise UsageError(f"--encoding: {paths[0]} is Parquet, which has none; leave it out.")


def section_of_flags(**flags: Any) -> DataSection:
    """Return a data section with what flags say. UsageError names the flag that cannot be."""
    from pydantic import ValidationError

    try:
        return DataSection.model_validate({k: v for k, v in flags.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{first['loc'][0]}: {message}.") from None


__all__ = ["DELIMITED", "NO_CHARACTER", "ReadOptions", "section_of_flags"]
