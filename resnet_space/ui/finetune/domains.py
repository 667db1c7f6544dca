"""Source and target of a run's training, on a map of its features before and after."""

import gradio as gr

from resnet_space import plots
from resnet_space.common.text import plotly_text
from resnet_space.data.restyled import RESTYLED
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.events import PRIVATE, QUIET, Update
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.html import note_html, place_report
from resnet_space.ui.subject import Shared

NOTE = note_html(
    "Each point is a test image: the input of the head, on the two principal components of both datasets. MMD² is "
    "measured in all dimensions; near 0, the domains have the same features."
)
GONE = note_html("The weights before the training are not on this machine.")


def build_domains(shared: Shared) -> gr.Accordion:
    """Place the panel, which is about a subject that has a target, and wire its events."""
    context, subject = shared.context, shared.subject
    label = "Source and target: a map of the features"
    with gr.Accordion(label, open=False, elem_id="domains", elem_classes="left-out") as panel:
        draw = gr.Button("Draw the map", size="sm")
        maps = place_report("domain-maps", {"html": NOTE})
        exports = place_exports([subject.run], lambda name: domains_of(context, name), visible=False)

    @costly
    def on_draw(name: str) -> Update:
        found = domains_of(context, name)
        charts = {f"map{i}": chart for i, chart in enumerate(found.charts)}
        places = "".join(f'<div class="chart" data-chart="{place}"></div>' for place in charts)
        words = NOTE if len(charts) > 1 else NOTE + GONE
        return {
            maps: {"html": f'{words}<div class="charts">{places}</div>', "figures": charts},
            exports.buttons: gr.update(visible=True),
        }

    def on_subject() -> Update:
        return {maps: {"html": NOTE}, exports.buttons: gr.update(visible=False)}

    views = [maps, exports.buttons]
    draw.click(on_draw, subject.run, views, concurrency_limit=1, show_progress_on=draw, **PRIVATE)
    subject.run.change(on_subject, None, views, **QUIET)
    found: gr.Accordion = panel
    return found


def domains_of(context: AppContext, name: str | None) -> Export:
    """The maps of a run, and their points as a table. Raises UserError."""
    from resnet_space.training.domain_map import domain_map

    run = context.library.open(name or "")
    with context.slots.taken("measurements"):
        found = domain_map(run)
    training = run.config.training
    source, target = training.dataset, RESTYLED.get(training.target, training.target)
    charts: list[plots.Chart | None] = []
    rows: list[list[object]] = []
    for when, plane in (("before", found.before), ("after", found.after)):
        if plane is None:
            continue
        drawn = [
            (plotly_text(domain), points.tolist(), [plotly_text(one) for one in classes])
            for domain, points, classes in (
                (source, plane.source, found.source_classes),
                (target, plane.target, found.target_classes),
            )
        ]
        title = f"{when.capitalize()} the training: MMD² {plane.mmd2:.3f}"
        charts.append(plots.domains_chart(title, drawn[0], drawn[1], plane.shares))
        rows += [
            [when, domain, label, *point]
            for domain, points, labels in drawn
            for point, label in zip(points, labels, strict=True)
        ]
    python = (
        "from resnet_space.runs import Run\nfrom resnet_space.training.domain_map import domain_map\n\n"
        f'found = domain_map(Run.open("checkpoints/{run.name}"))\n'
        "print(found.before and found.before.mmd2, found.after.mmd2)"
    )
    caption = f"Features of {source} and {target} in {run.name}, before and after its training."
    columns = ["weights", "dataset", "class", "component 1", "component 2"]
    return Export(stem(run.name, "domains"), charts, caption, (columns, rows), python)
