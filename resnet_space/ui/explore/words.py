"""What to look for in this very result, in a few sentences that are made from its numbers.

Lists are by block in forward order; `ratios` are medians over the images of ||F(x)|| / ||shortcut(x)||.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from resnet_space.plots.residuals import Block, stage_names

NEARLY_IDENTITY = 0.1
ALIKE = 1.02  # a ratio of two medians below which a block has not changed
SMALL_COSINE = 0.1
MOST_LISTED = 6


def norms_words(what: str, blocks: Sequence[Block], ratios: Sequence[float]) -> str:
    """Which blocks change their input most and least, and how the ratio goes within a stage."""
    finite = [(block, r) for block, r in zip(blocks, ratios, strict=True) if math.isfinite(r)]
    kept = {block.name: r for block, r in finite if block.identity}
    new_shape = {block.name: r for block, r in finite if not block.identity}
    said = [f"**{what}.**"]
    if kept:
        most, least = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
        nearly = [block for block, r in kept.items() if r < NEARLY_IDENTITY]
        said.append(
            f"Of the {len(kept)} blocks that keep x's shape, **{most}** changes its input most, by {kept[most]:.0%} of "
            f"its length, and **{least}** least, by {kept[least]:.0%}"
            f"{': nearly an identity' if kept[least] < NEARLY_IDENTITY else ''}."
        )
        if len(nearly) > 1:
            said.append(
                f"{len(nearly)} blocks are nearly identities: they change x by less than {NEARLY_IDENTITY:.0%}."
            )
    paragraphs = [" ".join(said)]
    if trend := stage_trends(blocks, ratios):
        paragraphs.append(trend)
    if new_shape:
        listed = ", ".join(f"{block} by {r:.0%}" for block, r in [*new_shape.items()][:MOST_LISTED])
        paragraphs.append(
            f"Where the shape changes, F(x) has new channels to fill; the shortcut's output changes: {listed}."
        )
    return "\n\n".join(paragraphs)


def stage_trends(blocks: Sequence[Block], ratios: Sequence[float]) -> str:
    """In how many stages the last block that keeps the shape changes x less than the first, as published."""
    names = stage_names(blocks)
    stages: dict[str, list[float]] = {}
    for block, r in zip(blocks, ratios, strict=True):
        if block.identity and math.isfinite(r):
            stages.setdefault(names[block.stage], []).append(r)
    long = {stage: found for stage, found in stages.items() if len(found) > 1}
    if not long:
        return ""
    falling = [stage for stage, found in long.items() if found[-1] < found[0]]
    told = "; ".join(
        f"{stage} from {found[0]:.2f} to {found[-1]:.2f}" for stage, found in [*long.items()][:MOST_LISTED]
    )
    if len(falling) == len(long):
        how = "From the first to the last of these blocks the ratio falls in every stage"
    elif not falling:
        how = "From the first to the last of these blocks the ratio rises in every stage"
    else:
        how = f"From the first to the last of these blocks the ratio falls in {len(falling)} of {len(long)} stages"
    return f"{how}: {told}. Jastrzębski et al. (2018) found a fall within each stage, in pre-activation networks."


def plain_words(what: str, count: int) -> str:
    """For a network without shortcuts."""
    return (
        f"**{what}.** This network is plain: its {count} blocks have no shortcut, so nothing is added to F(x), and "
        "there is no ratio. The points show how long F(x) is beside the block's input."
    )


def direction_words(blocks: Sequence[str], cosines: Sequence[float]) -> str:
    """Medians of cos(F(x), x): does a block add along x, against it, or across?"""
    found = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not found:
        return "There is no shortcut to compare F(x) with."
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    across = [b for b, c in found.items() if abs(c) < SMALL_COSINE]
    said = []
    if found[low] < -SMALL_COSINE:
        said.append(f"**{low}** points most against x (cosine {found[low]:+.2f}): it takes away part of what comes in.")
    if found[high] > SMALL_COSINE:
        said.append(f"**{high}** points most along x ({found[high]:+.2f}): it strengthens what is there already.")
    said.append(
        f"In {len(across)} of {len(found)} blocks F(x) is nearly at a right angle to x (within {SMALL_COSINE:g} of 0): "
        "what they add is new."
    )
    return " ".join(said)


def alignment_words(blocks: Sequence[str], cosines: Sequence[float]) -> str:
    """Medians of cos(F(x), dL/dx): do the blocks go downhill?"""
    found = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not found:
        return "F(x) and the gradient have no common shape in any block."
    down = [b for b, c in found.items() if c < 0]
    steepest = min(found, key=found.__getitem__)
    said = (
        f"In {len(down) or 'none'} of {len(found)} blocks F(x) points against the gradient of the loss (median cosine "
        "below 0): to first order, adding it there makes the loss smaller."
    )
    if found[steepest] < 0:
        said += f" **{steepest}** does so most ({found[steepest]:+.3f})."
    return said


def responses_words(layers: Sequence[str], std: Sequence[float]) -> str:
    """Where the network answers loudly and where softly."""
    if not layers:
        return "Responses are measured in the 3x3 convolutions of ResNets; this network is none."
    loud, soft = max(range(len(std)), key=std.__getitem__), min(range(len(std)), key=std.__getitem__)
    mean = sum(std) / len(std)
    return (
        f"The {len(layers)} layers respond with a standard deviation of {mean:.2f} on average; **{layers[loud]}** most "
        f"({std[loud]:.2f}), **{layers[soft]}** least ({std[soft]:.2f}). He et al. (2015) found that deeper residual "
        "networks have smaller responses: compare two depths in **Compare**."
    )


def lesion_words(blocks: Sequence[str], accuracy: Sequence[float], intact: float, images: int) -> str:
    """What the network can do without."""
    worst, best = (pick(range(len(blocks)), key=accuracy.__getitem__) for pick in (min, max))
    one = f" One image is {1 / images:.1%} here." if images < 1_000 else ""
    if accuracy[best] - accuracy[worst] < 1 / images:
        return f"Whole, it is right for {intact:.1%}, and without any one block for {accuracy[worst]:.1%}.{one}"
    spare = [b for b, a in zip(blocks, accuracy, strict=True) if a > intact - 0.01]
    said = (
        f"Whole, it is right for {intact:.1%}. Without **{blocks[worst]}** only for {accuracy[worst]:.1%}: of all "
        f"blocks it is needed most. Without **{blocks[best]}** it is still right for {accuracy[best]:.1%}."
    )
    if len(spare) > 1:
        said += f" {len(spare)} of {len(blocks)} blocks can go at a cost of less than a point each."
    return said + one


def several_words(counts: Sequence[int], medians: Sequence[float], intact: float, blocks: int) -> str:
    """How gracefully it fails (Veit et al. 2016, figure 5)."""
    half = next((c for c, m in zip(counts, medians, strict=True) if m < intact / 2), None)
    first = f"With {counts[0]} of {blocks} blocks dropped at random the median accuracy is {medians[0]:.1%}"
    if half is None:
        return f"{first}; even with {counts[-1]} it stays above half of the whole network's {intact:.1%}."
    if half == counts[0]:
        return f"{first}, less than half of the whole network's {intact:.1%}."
    return f"{first}; it falls below half of the whole network's {intact:.1%} with {half}."


def swapped_words(pairs: Sequence[str], accuracy: Sequence[float], intact: float) -> str:
    worst, best = (pick(range(len(pairs)), key=accuracy.__getitem__) for pick in (min, max))
    if accuracy[best] == accuracy[worst]:
        return f"Exchanging any of {len(pairs)} pairs leaves {accuracy[worst]:.1%} right, of {intact:.1%}."
    return (
        f"Of {len(pairs)} pairs, exchanging **{pairs[best]}** hurts least ({intact:.1%} becomes {accuracy[best]:.1%}) "
        f"and **{pairs[worst]}** most ({accuracy[worst]:.1%})."
    )


def early_words(blocks: Sequence[str], accuracy: Sequence[float], agreement: Sequence[float]) -> str:
    """Where the answer is formed."""
    if len(blocks) < 2:
        return f"The last stage has one block only: the head reads {accuracy[-1]:.1%} right after it."
    steps = [b - a for a, b in pairwise(accuracy)]
    largest = max(range(len(steps)), key=steps.__getitem__)
    return (
        f"Read after **{blocks[0]}**, the head is right for {accuracy[0]:.1%}, and says already what it will say in "
        f"the end for {agreement[0]:.1%}; after the last block, **{blocks[-1]}**, it is right for {accuracy[-1]:.1%}. "
        + (
            f"**{blocks[largest + 1]}** adds most: {100 * steps[largest]:+.1f} points."
            if steps[largest] > 0
            else "No block adds to that."
        )
    )


def gradient_words(
    blocks: Sequence[str], norm: Sequence[float], branches: Sequence[float], plain: Sequence[float]
) -> str:
    """What of the gradient reaches the first block, by medians: with the shortcuts, and without."""

    def share(values: Sequence[float]) -> float:
        return values[0] / values[-1] if values[-1] else math.nan

    said = [
        f"From the last block (**{blocks[-1]}**) to the first (**{blocks[0]}**) the gradient becomes "
        f"{times(share(norm))} as long through the whole network."
    ]
    for values, how in ((branches, "through the branches only, past no shortcut,"), (plain, "in the plain network")):
        if math.isfinite(share(values)):
            said.append(f"{how[0].upper()}{how[1:]} it becomes {times(share(values))} as long.")
    return " ".join(said)


def times(factor: float) -> str:
    """A factor as people read it: "1.8 times", "0.0004 times"."""
    if not math.isfinite(factor):
        return "an unknown number of times"
    return f"{factor:,.0f} times" if factor >= 100 else f"{factor:.2g} times"


def picture_words(block: str, image: str, ratio: float | None, share: float) -> str:
    """Of one block and image: how long F(x) is beside x, and the share of its square in a tenth of the places."""
    told = "" if ratio is None or not math.isfinite(ratio) else f"F(x) is {ratio:.0%} as long as x, and "
    return f"In {block}, for {image}: {told}{share:.0%} of its square lie in a tenth of the places."


def growth_words(blocks: Sequence[str], epochs: Sequence[int], ratios: Sequence[Sequence[float]]) -> str:
    """Which block changed most from the first to the last epoch."""
    if len(epochs) < 2:
        return "One epoch is recorded so far."
    first, last = ratios[0], ratios[-1]
    grown = [b / a if a and math.isfinite(a) and math.isfinite(b) else 1.0 for a, b in zip(first, last, strict=True)]
    at = max(range(len(blocks)), key=lambda i: abs(math.log(max(grown[i], 1e-9))))
    began = "before training" if not epochs[0] else f"after epoch {epochs[0]}"
    rose = sum(g > 1 for g in grown)
    return (
        f"**{blocks[at]}** changed most: its ratio was {first[at]:.2f} {began} and is {last[at]:.2f} after epoch "
        f"{epochs[-1]}. {rose or 'None'} of {len(blocks)} blocks change their input more than at first."
    )


def compare_words(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Which blocks differ most between the first run and each of the others, by their medians."""
    (name, first), *others = runs.items()
    said = []
    for other, ratios in others:
        common = [b for b in first if b in ratios and first[b] > 0 and ratios[b] > 0]
        if list(first) != list(ratios):
            a, b = (_mean(values.values()) for values in (first, ratios))
            said.append(
                f"**{other}** has {len(ratios)} blocks and **{name}** {len(first)}: on average over the blocks the "
                f"ratio is {b:.2f} there and {a:.2f} here."
            )
            continue
        if not common:
            said.append(f"**{other}** has no ratio to compare.")
            continue
        change = {block: ratios[block] / first[block] for block in common}
        order = sorted(change, key=lambda block: -abs(math.log(change[block])))
        if max(abs(math.log(change[b])) for b in common) < math.log(ALIKE):
            said.append(f"**{other}** and **{name}** hardly differ: no block's ratio by more than {ALIKE - 1:.0%}.")
            continue
        listed = ", ".join(f"**{b}** ({first[b]:.2f} → {ratios[b]:.2f})" for b in order[:3])
        rose = sum(c > 1 for c in change.values())
        said.append(
            f"From {name} to **{other}** these blocks changed most: {listed}; least {order[-1]} "
            f"({first[order[-1]]:.2f} → {ratios[order[-1]]:.2f}). {rose} of {len(common)} change their input more than "
            "before."
        )
    return "\n\n".join(said)


def _mean(values: "object") -> float:
    finite = [v for v in values if math.isfinite(v)]  # type: ignore[attr-defined]
    return sum(finite) / len(finite) if finite else math.nan
