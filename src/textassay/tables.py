"""Tables that stay readable where the terminal is narrow."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from textassay.errors import visible

# Wider than any table: what a table is measured against.
UNLIMITED = 10_000


class SafeConsole(Console):
    """A console that shows control characters in what it is given, and obeys none of them.

    Labels, texts and names of files are somebody else's. The console's own colours are no texts.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments of what is printed, with what cannot be seen made visible."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible(text), style)


class FittingTable(Table):
    """A plain table: the first column left, all others right.

    Where it is wider than the terminal, each row is a block of lines, a value a line: figures that
    are broken in two are misread. One of texts is broken.
    """

    def __init__(self, title: str, columns: list[str], of_texts: bool) -> None:
        super().__init__(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        self._of_texts = of_texts
        for index, column in enumerate(columns):
            self.add_column(column, justify="left" if index == 0 else "right", overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Any:
        """The table, or its rows as blocks."""
        natural = console.measure(self, options=options.update_width(UNLIMITED)).maximum
        if self._of_texts or natural <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._blocks(console, options.max_width)

    def _blocks(self, console: Console, width: int) -> Iterator[Any]:
        if self.title:
            yield console.render_str(f"[bold]{self.title}[/bold]")
        first, *others = [list(column.cells) for column in self.columns]
        names = [str(column.header) for column in self.columns[1:]]
        for row, head in enumerate(first):
            yield console.render_str(str(head) or " ")
            for name, cells in zip(names, others, strict=True):
                value = console.render_str(str(cells[row]))
                between = "  " if len(name) + len(value) + 4 <= width else "\n    "
                if value:
                    yield console.render_str(f"  {escape(name)}{between}") + value
