"""The predict tab: an image and a run -> the top-5 classes and, for CBAM models, where and what they attend to."""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_space.images import ImageError, open_image
from resnet_space.runs import RunError
from resnet_space.ui.choices import run_dropdown
from resnet_space.ui.guard import admit
from resnet_space.ui.pull import build_pull, wire_pull
from resnet_space.ui.refusals import refusal
from resnet_space.ui.svg import themed_svg
from resnet_space.ui.uploads import uploaded_file
from resnet_space.ui.workshop import Workshop

if TYPE_CHECKING:
    from PIL.Image import Image

    from resnet_space.attention import AttentionMaps

EXAMPLES = Path(__file__).parent.parent / "datasets" / "examples"
EMPTY = '<div class="empty">Choose an example below the picture, or bring your own: the answer appears here.</div>'
NAMED_CHANNELS = 3  # the most turned up and down
AS_GOOD_AS_NEUTRAL = 0.01


@dataclass(frozen=True)
class PredictTab:
    """What the other tabs need."""

    run: gr.Dropdown


def read_picture(payload: dict[str, Any] | None) -> "Image":
    """The picture in an image component's payload, which is taken as it came (`preprocess=False`).

    Gradio's own preprocessing opens the file first and has no sentence for one that is not an image.

    Raises:
        gr.Error: one sentence for a missing or unusable picture, or one that was not uploaded.
    """
    if not payload or not payload.get("path"):
        raise refusal("There is no image yet: upload one, take one, paste one, or choose an example.")
    try:
        return open_image(uploaded_file(payload))
    except ImageError as error:
        raise refusal(error) from None


def classify(workshop: Workshop, picture: dict[str, Any] | None, name: str) -> tuple[dict[str, float], str]:
    """({class: probability} of the top 5, the attention maps as HTML) for a picture."""
    image = read_picture(picture)
    try:
        classifier = workshop.classifier(name)
    except RunError as error:
        raise refusal(error) from None
    prediction = classifier.predict(image)
    seen = classifier.view(image)
    note = f'<p class="note">What {escape(name)} sees: {escape(classifier.preprocessing)}.</p>'
    top = dict(zip(prediction.classes, prediction.probabilities, strict=True))
    return top, attention_html(seen, prediction.attention, name) + note


def attention_html(seen: "Image", attention: "AttentionMaps", name: str) -> str:
    """The model's input and, a CBAM each, its spatial gate over it and its channel gates as bars."""
    from resnet_space import figures  # brings matplotlib

    whole = seen.resize((figures.OVERLAY_SIZE, figures.OVERLAY_SIZE))
    cards = [_card(whole, "<b>input</b><br>as the model sees it", "")]
    if not attention.spatial:
        words = (
            f"<p>{escape(name)} has no CBAM, so it has no attention maps of its own. "
            'Choose a run with "cbam" in its name, or train one with CBAM.</p>'
        )
        return f'{words}<div class="maps">{"".join(cards)}</div>'

    low = min(float(gate.min()) for gate in attention.spatial.values())
    high = max(float(gate.max()) for gate in attention.spatial.values())
    for module, spatial in attention.spatial.items():
        gates = attention.channel[module][0].numpy()
        neutral = 1 / attention.gain[module]
        picture = figures.overlay(seen, spatial[0].numpy(), low, high)
        words = (
            f"<b>{escape(_place(module))}</b><br>spatial gate {float(spatial.min()):.2f} to {float(spatial.max()):.2f}"
        )
        cards.append(
            _card(picture, words, themed_svg(figures.channel_gates(gates, neutral)) + _channel_words(gates, neutral))
        )
    scale = (
        '<div class="scale"><span>gate</span>'
        f'<span>{low:.2f}</span><span class="ramp"></span><span>{high:.2f}</span></div>'
    )
    words = (
        "<p>CBAM scales every place and every channel of its stage's features with a gate: <b>bright places are let "
        "through most</b>; a gate of 0.50 leaves things as they are. All maps share one scale and come from the same "
        "forward pass as the answer.</p>"
    )
    return f'{words}{scale}<div class="maps">{"".join(cards)}</div>'


def _place(module: str) -> str:
    """ "cbam2" -> "after stage 2"; "layer2.1.cbam" -> "inside layer2.1"."""
    return f"after stage {module[4:]}" if module.startswith("cbam") else f"inside {module.removesuffix('.cbam')}"


def _channel_words(gates: Any, neutral: float) -> str:
    order = gates.argsort()
    up = [f"{i} ({gates[i]:.2f})" for i in order[::-1] if gates[i] > neutral + AS_GOOD_AS_NEUTRAL]
    down = [f"{i} ({gates[i]:.2f})" for i in order if gates[i] < neutral - AS_GOOD_AS_NEUTRAL]
    lines = []
    for turned, channels in (("turned up", up), ("turned down", down)):
        most = f": most {', '.join(channels[:NAMED_CHANNELS])}" if channels else ""
        lines.append(f"{len(channels)} of {len(gates)} channels {turned}{most}")
    return f'<figcaption class="subdued">{"<br>".join(lines)}</figcaption>'


def _card(picture: "Image", words: str, below: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = escape(words.replace("<b>", "").replace("</b>", "").replace("<br>", ", "))
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{alt}"><figcaption>{words}</figcaption>{below}</figure>'
    )


def build_predict(workshop: Workshop, visitor: gr.BrowserState, names: gr.State) -> PredictTab:
    """Place the tab's components and wire its events; `names` are the runs that can predict."""
    trained = workshop.trained_names()
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            picture = gr.Image(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=320,
                elem_id="picture",
                buttons=["fullscreen"],
            )
            gr.Examples(
                [[str(path)] for path in sorted(EXAMPLES.glob("*.jpg"))],
                picture,
                label="Examples: CIFAR-10 test images, 32 x 32 pixels",
                examples_per_page=10,
            )
            run = run_dropdown(trained, workshop.default_name())
            pulled = build_pull(workshop, visitor)
            button = gr.Button("Predict", variant="primary")
        with gr.Column(scale=2, min_width=320):
            label = gr.Label(label="Top 5", num_top_classes=5, show_heading=True)
            maps = gr.HTML(EMPTY, label="Attention maps")

    def predict(image: dict[str, Any] | None, run: str, request: gr.Request) -> tuple[dict[str, float], str]:
        """Classify a picture.

        Args:
            image: a photograph of at most 50 million pixels, uploaded or as a data: URL; JPEG, PNG, WebP, GIF, TIFF.
            run: a trained run's name; one that is always there is resnet20-cbam-cifar10.

        Returns:
            The five most probable classes with their probabilities, and the attention maps as HTML.
        """
        admit(workshop, request)
        return classify(workshop, image, run)

    def on_change(image: dict[str, Any] | None, run: str, request: gr.Request) -> tuple[Any, str]:
        if not (image and run):
            return None, EMPTY
        admit(workshop, request)
        return classify(workshop, image, run)

    inputs, outputs = [picture, run], [label, maps]
    button.click(predict, inputs, outputs, api_name="predict", preprocess=False)
    gr.on(
        [picture.change, run.change],
        on_change,
        inputs,
        outputs,
        preprocess=False,
        trigger_mode="always_last",
        api_visibility="private",
    )
    names.change(lambda known: gr.update(choices=known), names, run, show_progress="hidden", api_visibility="private")
    wire_pull(pulled, names, run)
    return PredictTab(run)
