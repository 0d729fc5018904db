"""The model card: README.md of an artifact."""

import jinja2

from textassay.config.runs import Run
from textassay.data.load import Dataset
from textassay.evaluation.calibrate import Calibration
from textassay.evaluation.evaluate import Evaluation
from textassay.evaluation.markdown import plain_markdown, yaml_text
from textassay.evaluation.report import show, show_change
from textassay.files import read_json
from textassay.models.source import SETTINGS_KEY, Source

CARD = """\
---
library_name: {{ library }}
base_model: {{ base.name|quoted }}
pipeline_tag: text-classification
---
# {{ run.job.name|plain }}, seed {{ run.seed }}
{%- if alarm %}

**{{ alarm|plain }}**
{%- endif %}

A text classifier with {{ labels|length }} labels: {{ labels|join(", ")|plain }}.

| | |
| --- | --- |
| base | {{ base.name|plain }} |
| method | {{ run.job.method.name|plain }} |
{%- if run.job.distillation.teacher %}
| teacher | {{ run.job.distillation.teacher|plain }} |
{%- endif %}
| trained on | {{ dataset.name|plain }}, {{ "{:,}".format(dataset.splits.train|length) }} rows |
| input | cut to {{ run.job.model.max_seq_length }} tokens{{ prompted|plain }} |
| validation accuracy | {{ show(validation.scores.accuracy) }} |
| validation macro-F1 | {{ show(validation.scores.macro_f1) }} |
| calibrated | {{ calibration.sentence()|plain }} |

The validation rows ({{ "{:,}".format(validation.truth|length) }}) picked the checkpoint. Brackets
are {{ "%.0f"|format(100 * validation.settings.confidence) }}% intervals. The test figures
stand in the run's report. The licences of the base model and of the data apply.
{%- if validation.calibrated %}

Softmax is taken of the logits over the temperature, which `config.json` holds under `textassay`.
textassay does so by itself; plain transformers does not. The expected calibration error on the
validation rows, which flatter it: {{ show_change(validation.calibrated, "ece") }}.
{%- endif %}
{%- if unknown %}

Load it with textassay as below: plain transformers does not know its {{ unknown }}.
{%- endif %}

```python
from textassay import Classifier

classifier = Classifier.load("path/to/this/directory")
print(classifier.predict(["a text"]))
```

`hallmark.json` says what these files are made of; `textassay verify DIR` holds them to it.
"""


def model_card(
    run: Run, dataset: Dataset, base: Source, validation: Evaluation, calibration: Calibration,
    alarm: str = "",
) -> str:  # fmt: skip
    """The card's text, with validation figures: test figures belong to the run.

    `alarm` is what has to be said first: that it did not learn.
    """
    environment = jinja2.Environment(keep_trailing_newline=True)
    environment.filters |= {"plain": plain_markdown, "quoted": yaml_text}
    return environment.from_string(CARD).render(
        run=run,
        dataset=dataset,
        base=base,
        validation=validation,
        calibration=calibration,
        alarm=alarm,
        show_change=show_change,
        labels=dataset.labels.names,
        library="transformers" if run.job.method.name == "full" else "peft",
        unknown=_unknown_to_transformers(run, base),
        prompted=_joined(run.job.data.text_column) + (", in a prompt" * bool(run.job.data.prompt)),
        show=show,
    )


def _joined(text_column: str | None) -> str:
    """How several columns became the text, which whoever asks the model has to do as well."""
    return f", the columns {text_column} joined by a space" if "," in (text_column or "") else ""


def _unknown_to_transformers(run: Run, base: Source) -> str:
    """What plain transformers cannot build; empty where it can load the model."""
    if run.job.model.head != "linear":
        return f"{run.job.model.head} head"
    settings = read_json(base.path / "config.json").get(SETTINGS_KEY)
    is_pruned = isinstance(settings, dict) and settings.get("pruned")
    return "pruned layers" if is_pruned else ""
