"""The look of the page: one theme, light and dark."""

from pathlib import Path

import gradio as gr

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")  # nothing to download
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)


CSS = """
.gradio-container { width: 100%; max-width: min(1400px, 100vw) !important; margin: 0 auto;
  overflow: clip !important; } /* as "hidden" nothing in it could be sticky */
.html-container { padding: 0 !important; }
#head { align-items: center; justify-content: space-between; }
#head > * { flex: 0 1 auto; width: auto !important; }
#sign-in { height: auto; padding: 0.4rem 1rem; }
.report a { color: var(--link-text-color); text-decoration: underline; }
#title h1 { margin-bottom: 0.1rem; }
#title p { margin-top: 0; color: var(--body-text-color-subdued); }
/* All three tabs fit on a phone, instead of the last going into a menu. */
@media (max-width: 600px) { .tab-container button { padding: 0 0.55rem !important; font-size: 0.9rem !important; } }

/* Plotly's figures carry no colours for text and grid, so that they follow the theme. */
.js-plotly-plot text { font-family: inherit !important; }
.js-plotly-plot text:not(:where(.heatmap-label > text)) { fill: var(--body-text-color) !important; }
.js-plotly-plot .hoverlayer text { fill: #fff !important; }
.js-plotly-plot .gridlayer path { stroke: var(--border-color-primary) !important; }
.js-plotly-plot .xlines-above, .js-plotly-plot .ylines-above,
.js-plotly-plot path.xtick, .js-plotly-plot path.ytick { stroke: var(--body-text-color-subdued) !important; }
.js-plotly-plot .modebar { display: none; }
.js-plotly-plot:hover .modebar { display: block; }
@media (hover: none) { .js-plotly-plot .modebar { display: none !important; } } /* it would cover the title */

.status { padding: 0.75rem 1rem; border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  background: var(--block-background-fill); min-height: 5.2rem; box-sizing: border-box; }
.status .line { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.status .subdued { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.status .bar { height: 0.6rem; margin-top: 0.6rem; border-radius: 0.3rem; overflow: hidden;
  background: var(--border-color-primary); }
.status .bar > div { height: 100%; background: var(--primary-500); transition: width 0.4s linear; }
#going-on { align-items: center; }
.status.failed { border-color: #D55E00; }

.chart { min-height: 340px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 0.5rem; }
.charts > * { min-width: 0; }
details > summary { cursor: pointer; color: var(--body-text-color-subdued); font-size: 0.92rem; padding: 0.2rem 0; }
.status pre { max-height: 14rem; overflow: auto; font-size: 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.runs { overflow-x: auto; width: 0; min-width: 100% !important; } /* or the page would widen */
.runs table { width: 100%; margin: 0; border-collapse: collapse;
  font-size: 0.92rem; font-variant-numeric: tabular-nums; }
.runs th, .runs td { text-align: left; padding: 0.35rem 0.45rem; border: none;
  border-bottom: 1px solid var(--border-color-primary);
  color: var(--body-text-color); }
.runs th { font-weight: 600; color: var(--body-text-color-subdued); }
.runs td:first-child, .runs td:last-child { white-space: nowrap; }
.runs .subdued { color: var(--body-text-color-subdued); }
.runs .swatch { display: inline-block; width: 0.8rem; height: 0.8rem; border-radius: 0.2rem; margin-right: 0.45rem;
  vertical-align: -0.1rem; }
.runs .meter { display: inline-block; width: 3.5rem; height: 0.6rem; border-radius: 0.3rem;
  background: var(--border-color-primary); overflow: hidden; }
.runs .meter > span { display: block; height: 100%; }
.finding, .scores { margin: 0.6rem 0 0; color: var(--body-text-color); }

.caution { margin: 0 0 0.4rem; padding: 0.4rem 0.7rem; border-left: 4px solid #E69F00; font-size: 0.92rem;
  background: var(--block-background-fill); color: var(--body-text-color); }
.recommended { margin: 0; font-size: 0.92rem; color: var(--body-text-color); }
.plan { display: grid; grid-template-columns: max-content var(--columns); gap: 3px; overflow-x: auto;
  font-size: 0.88rem; font-variant-numeric: tabular-nums; color: var(--body-text-color); }
.plan > div { padding: 0.2rem 0.5rem; border-radius: 0.25rem; text-align: center; white-space: nowrap; }
.plan .part { text-align: right; }
.plan .epochs { color: var(--body-text-color-subdued); white-space: normal !important; align-self: end; }
.plan .trains { color: #fff; background: color-mix(in srgb, #00395c calc(var(--share) * 100%), #0072B2); }
.plan .frozen { color: var(--body-text-color-subdued); border: 1px dashed var(--border-color-primary); }
.data p, .report p { margin: 0 0 0.5rem; color: var(--body-text-color); }
.data .bars { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr max-content; gap: 2px 0.6rem;
  align-items: center; margin-bottom: 0.8rem; font-size: 0.88rem; color: var(--body-text-color); }
.data .bars .name { max-width: 14rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.data .bars .bar > div { height: 0.7rem; min-width: 1px; border-radius: 0.2rem; background: #0072B2; }
.data .bars .count { text-align: right; font-variant-numeric: tabular-nums; }
.data .tiles { display: grid; grid-template-columns: repeat(6, 1fr); gap: 0.5rem;
  margin-bottom: 0.8rem; }
.data .tiles figure { margin: 0; min-width: 0; }
.data .tiles img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; border-radius: 0.25rem; }
.data .tiles figcaption { font-size: 0.8rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  color: var(--body-text-color-subdued); }
@media (max-width: 600px) { .data .tiles { grid-template-columns: repeat(4, 1fr); } }
.label-wrap { text-align: left; gap: 0.6rem; } /* a heading of two lines, on a phone */
.label-wrap .icon { flex: none; align-self: center; }

/* On a phone the form stands above all else: what trains is said at the top of it, and stays in sight. */
@media (max-width: 700px) {
  #finetune { flex-flow: column nowrap; }
  #finetune > .column { display: contents; }
  #status { order: -1; }
  #status:has(.going) { position: sticky; top: 0; z-index: 20; }
}

/* Where it is told what came of something, and before that how far it is; without either it takes no place. */
.block.told:has(.progress-level) { min-height: 4rem; }
.block.told:has(.progress-level) .html-container { visibility: hidden; }
.block.told:not(:has(.progress-level)) > .wrap { display: none; }
.block.told:not(:has(.progress-level)):not(:has(p)) { display: none; }
.report ul { margin: 0; padding-left: 1.2rem; }
.report { font-size: 0.92rem; color: var(--body-text-color); overflow-wrap: anywhere; }

.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(140px, 22%), 1fr)); gap: 0.9rem; }
.maps figure { margin: 0; }
.maps img { width: 100%; display: block; border-radius: var(--radius-md); aspect-ratio: 1; }
.maps svg { width: 100%; height: auto; display: block; color: var(--body-text-color); }
.maps figcaption { margin: 0.25rem 0 0.35rem; font-size: 0.9rem; line-height: 1.35; color: var(--body-text-color); }
.maps .subdued, .note { color: var(--body-text-color-subdued); }
.scale { display: flex; align-items: center; gap: 0.5rem; margin: 0.2rem 0 0.8rem; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
.scales { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.scale .ramp { flex: 0 1 14rem; height: 0.7rem; border-radius: 0.35rem;
  background: linear-gradient(90deg, #440154, #3b528b, #21918c, #5ec962, #fde725); }
.scales .scale { max-width: 100%; }
.scales .ramp { flex: 0 1 6rem; min-width: 2.5rem; }
.empty { padding: 1.6rem 1rem; text-align: center; color: var(--body-text-color-subdued);
  border: 1px dashed var(--border-color-primary); border-radius: var(--radius-lg); }

/* Predict */
@media (min-width: 900px) { #predict-choices { position: sticky; top: 0.5rem; align-self: flex-start; } }
.examples { display: grid; grid-template-columns: repeat(5, 1fr); gap: 0.4rem; }
.examples button { padding: 0; border: none; background: none; border-radius: var(--radius-md); }
.examples img { width: 100%; aspect-ratio: 1; border-radius: var(--radius-md); display: block; }
.examples button:hover { outline: 2px solid #0072B2; }
#examples .note { margin: 0 0 0.3rem; font-size: 0.85rem; }
#examples details { margin: 0.4rem 0 0; }
#examples a { color: var(--link-text-color); text-decoration: underline; }
#examples ul { margin: 0.3rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 0.5rem 1.5rem; }
.sides > section { min-width: 0; }
#answer h3, #why h3, #gates h3, #evidence h3 { margin: 1rem 0 0.3rem; font-size: 1.1rem;
  color: var(--body-text-color); }
#why h4, #evidence h4 { margin: 0.7rem 0 0.4rem; font-size: 0.95rem; font-weight: 400; color: var(--body-text-color); }
#why p, #gates p, #channel p, #evidence p { margin: 0 0 0.5rem; color: var(--body-text-color); }
.of { margin: 0; font-size: 0.88rem; color: var(--body-text-color-subdued) !important; }
.answer .said { margin: 0 0 0.5rem; font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere;
  color: var(--body-text-color); }
.answer.doubtful .said { font-size: 1.2rem; }
.answer .note { margin: 0.5rem 0 0; font-size: 0.85rem; }
.classes { display: grid; gap: 4px; }
.classes button { position: relative; display: flex; justify-content: space-between; gap: 1rem; width: 100%;
  padding: 0.45rem 0.7rem; overflow: hidden; border: 1px solid var(--border-color-primary); text-align: left;
  border-radius: var(--radius-md); background: var(--block-background-fill); color: var(--body-text-color); }
.classes button::before { content: ""; position: absolute; inset: 0 auto 0 0; width: var(--share); opacity: 0.28;
  background: #0072B2; }
.dark .classes button::before { opacity: 0.5; }
.doubtful .classes button::before { background: #888; }
.classes button > span { position: relative; }
.classes .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.classes .percent { white-space: nowrap; font-variant-numeric: tabular-nums; }
.classes button:hover { border-color: #0072B2; }
.classes button[aria-pressed="true"] { border-color: #0072B2; box-shadow: inset 3px 0 0 #0072B2; font-weight: 600; }
.dark .classes button[aria-pressed="true"] { border-color: #56B4E9; box-shadow: inset 3px 0 0 #56B4E9; }
:is(#examples, #answer, #why, #gates, #channel, #opacity) :is(button, a, input):focus-visible {
  outline: 3px solid #E69F00; outline-offset: 2px; }
.opacity { display: flex; flex-wrap: wrap; align-items: center; gap: 0.3rem 0.8rem; font-size: 0.92rem;
  color: var(--body-text-color); }
.opacity input { flex: 0 1 16rem; accent-color: #0072B2; }
.view { position: relative; aspect-ratio: 1; overflow: hidden; border-radius: var(--radius-md);
  background: var(--view) center / 100% 100% no-repeat; }
.view:has(img)::before { content: ""; position: absolute; inset: 0; background: inherit;
  filter: grayscale(calc(2 * var(--map-opacity, 0.6))); } /* its colours would mix with the map's */
.view img { position: absolute; inset: 0; width: 100%; height: 100%; border-radius: 0;
  opacity: var(--map-opacity, 0.6); }
#mistakes > .row { align-items: end; }
#mistakes button { height: auto; flex-grow: 0; }
#why .sides > section > .rows { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
.why .maps { grid-template-columns: repeat(2, minmax(0, 230px)); }
.keep { font-size: 0.85rem; }
.keep a { color: var(--link-text-color); text-decoration: underline; margin-right: 0.6rem; }
.ask { margin: 0.1rem 0 0.4rem; padding: 0.35rem 0.8rem; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-md); background: var(--button-secondary-background-fill); font-size: 0.9rem;
  color: var(--button-secondary-text-color); }
.ask:hover { border-color: #0072B2; }
.gates .bars { height: 90px; cursor: crosshair; border: 1px solid var(--border-color-primary); }
.gates .bars svg { height: 100%; }
.gates .bars .up { fill: #E69F00; } .gates .bars .down { fill: #0072B2; } .dark .gates .bars .down { fill: #56B4E9; }
.gates .bars line { stroke: #888; stroke-width: 1; vector-effect: non-scaling-stroke; }
.channels { margin-top: 0.3rem; font-size: 0.85rem; color: var(--body-text-color-subdued); }
.channels p { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem; margin: 0 0 0.3rem;
  color: var(--body-text-color-subdued) !important; }
.channels p > span { flex-basis: 100%; }
.channels button { padding: 0.15rem 0.5rem; border: 1px solid; border-radius: 1rem; color: var(--body-text-color);
  background: var(--block-background-fill); font-variant-numeric: tabular-nums; }
.channels button.up { border-color: #E69F00; } .channels button.down { border-color: #0072B2; }
.channels small { margin-left: 0.3rem; color: var(--body-text-color-subdued); }
.channels input { width: 5.6rem; padding: 0.15rem 0.4rem; font-size: 0.85rem; border-radius: var(--radius-sm);
  border: 1px solid var(--border-color-primary); background: var(--input-background-fill);
  color: var(--body-text-color); }
#channel .one { display: grid; grid-template-columns: minmax(140px, 230px) 1fr; gap: 1rem; align-items: center; }
#channel .maps { grid-template-columns: 1fr; }
#stop-test { width: auto; align-self: start; }
#evidence:has(.progress-level) { min-height: 4rem; }
.chart.short { min-height: 250px; }
.evidence { margin-bottom: 1rem; color: var(--body-text-color); }
.evidence .mark { display: inline-block; padding: 0.1rem 0.6rem; border-radius: 1rem; font-weight: 600; color: #fff;
  background: #666; }
.evidence.better .mark { background: #00664b; } .evidence.worse .mark { background: #b04a00; }
.evidence ul { margin: 0.3rem 0 0; padding-left: 1.2rem; font-size: 0.9rem; }
#many-table { overflow-x: auto; width: 0; min-width: 100% !important; }
@media (max-width: 600px) { #channel .one { grid-template-columns: 1fr; } .answer .said { font-size: 1.4rem; }
  .classes button { padding: 0.6rem 0.7rem; } }

/* 32-pixel pictures are shown as large as photographs are. */
#picture img { width: 100%; height: 100%; object-fit: contain; }

/* Explore */
#explore-views > .tab-wrapper button { padding-left: 0.5rem; padding-right: 0.5rem; font-size: 0.94rem; }
.keep { gap: 0.5rem; }
.about { color: var(--body-text-color-subdued); font-size: 0.94rem; }
.about p { margin-bottom: 0; }
.said p { margin: 0 0 0.5rem; }
.numbers { overflow-x: auto; width: 0; min-width: 100% !important; } /* or the page would widen */
.measuring { min-height: 0; }
#clicked .maps, #pictures-shown .maps { grid-template-columns: repeat(auto-fill, minmax(min(150px, 45%), 1fr)); }
#clicked .maps img, #pictures-shown .maps img { image-rendering: pixelated; }
"""

CSS += (Path(__file__).parent / "teach.css").read_text(encoding="utf-8")
