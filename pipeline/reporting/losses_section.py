"""The section of a report that compares objectives with each other and with other baselines."""

from collections.abc import Mapping

import pandas as pd

from pipeline.metrics import QUALITY, main_metric
from pipeline.reporting import table_views
from pipeline.reporting.answers import which_loss
from pipeline.reporting.clean_harm import clean_harm_section
from pipeline.reporting.document import Block, Bullets, Item, Paragraph, Section
from pipeline.settings.grammar import FROZEN, mixture_name
from pipeline.settings.params import Params, Statistics
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS, FEWEST_TRAININGS
from pipeline.statistics.verdicts import unequal_steps


def losses_section(params: Params, numbers: Mapping[str, pd.DataFrame], texts: table_views.Texts) -> Section:
    """Objective against objective, what this can and cannot show, and what it takes to show more.

    Args:
        params: objectives and settings.
        numbers: the CSV files of the report by name.
        texts: the same files, every cell as its text.
    """
    gains = texts["gains"]
    main = {task: main_metric(task).name for task in gains.task.unique() if task != QUALITY}
    about_main = gains.metric == gains.task.map(main)
    between = about_main & gains.variant.isin(params.objectives) & gains.versus.isin(params.objectives)
    blocks: list[Block] = []
    table = table_views.baseline_table(texts, "Loss against loss, in the main metrics", gains[between])
    if table:
        sentences = [which_loss(numbers["verdicts"], params.objectives), *_what_can_be_said(params)]
        blocks += [Bullets([Item(text) for text in sentences]), table]
    parts = []
    others = table_views.baseline_table(texts, "Gains over all other baselines", gains[~between])
    if others:
        parts.append(Section("Other metrics and baselines", [Bullets(_baseline_notes(params), note=True), others]))
    if cost := clean_harm_section(texts, params.retraining.repeats):
        parts.append(cost)
    if len(texts.get("planning", ())):
        parts.append(_planning(texts["planning"], params.statistics))
    return Section("Loss against loss", blocks, "losses", parts)


def _what_can_be_said(params: Params) -> list[str]:
    trainings = params.train_restorer.repeats
    if trainings == 1:
        said = "One training each: a difference may come from the seed. It has no interval and no verdict."
    elif trainings < FEWEST_TRAININGS:
        said = f"{trainings} trainings each: a difference has no interval and no verdict."
    elif trainings < FEWEST_FOR_VERDICTS:
        said = (
            f"{trainings} trainings each: intervals cover other test images and other seeds. "
            f"A verdict needs {FEWEST_FOR_VERDICTS} trainings."
        )
    else:
        said = f"{trainings} trainings each: intervals and verdicts cover other test images and other seeds."
    names = params.objectives
    if unequal_steps(params) or FROZEN in names or any(mixture_name(name) for name in names):
        return [said]
    return [said, "The objectives share network, first weights, steps, crops and their order. Only the loss differs."]


def _baseline_notes(params: Params) -> list[Item]:
    pixel = params.pixel_objectives
    texts = [f"{' and '.join(pixel)}: a restorer with the pixel loss alone."] if pixel else []
    texts += [
        "degraded-retrained: the task's network trained on degraded images, without any restorer.",
        "clean-retrained: the same training on clean images.",
        "Empty cells: the data have no interval. The reason is in gains.csv.",
        "clean-restored-... against clean: the harm that a restorer does to clean images.",
    ]
    return [Item(text) for text in texts]


def _planning(planning: pd.DataFrame, settings: Statistics) -> Section:
    note = (
        f"The groups of images (with as many trainings) and the trainings (with as many groups) that show a true gain "
        f"of {settings.margin:g} with a chance of 80 %: the interval excludes 0, before the correction for several "
        "comparisons. From the observed standard errors (SE) between groups and between trainings. With one training "
        "the numbers hold for this training; two objectives with one training each have none. Empty: more of these "
        "alone is not enough. All rows: planning.csv."
    )
    title = f"What it takes to show a gain of {settings.margin:g}"
    tables = [Section(table.caption, [table]) for table in table_views.planning_tables(planning)]
    return Section(title, [Paragraph(note, note=True)], sections=tables)
