"""Per layer: where milliseconds and MACs disagree."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profiling.report import layer_charts, words
from edgekit.profiling.report.html import Child, Markup, tag
from edgekit.profiling.report.parts import Missing, absent, columns, folded, section, table
from edgekit.profiling.report.plot import percent
from edgekit.profiling.result import LayerRun, LayerTime, ProfileResult

_WORTH_A_TABLE = 36  # kernels; fewer add little to the slowest
_SLOWEST = 12  # that are shown at once; the others are folded below them


def layers(result: ProfileResult, anchor: str, most: int) -> Markup | Missing:
    """Each runtime's instrumented run, or why it has none; ``most`` kernels of a run are shown."""
    title = "Layers: time beside MACs"
    if not result.layers:
        return Missing("Times per layer", words.left_out(result))
    drawn = (_one(run, result.facts.macs, most) for run in result.layers[:20])
    return section(title, anchor, drawn, level=3)


def _one(run: LayerRun, defined: int, most: int) -> Markup:
    heading = tag("h4", f"{run.runtime}, {words.plural(run.threads, 'thread')}")
    if not run.layers:
        why = run.note or "the runtime offers none"
        return tag("div", heading, absent(Missing("Times per layer", why)))
    return tag(
        "div",
        heading,
        tag("p", findings(run)),
        tag("p", words.executed(run, defined)),
        tag("p", _sum(run), class_="note"),
        tag("div", layer_charts.butterfly(run, most), class_="card"),
        _kinds(run),
        _slowest(run, most),
        _roofline(run, most),
    )


def findings(run: LayerRun) -> str:
    """What the layers say about MACs as a measure of time, in one or two sentences."""
    total = sum(layer.ms for layer in run.layers) or 1.0
    idle = sum(layer.ms for layer in run.layers if layer.macs == 0) / total
    unknown = sum(layer.ms for layer in run.layers if layer.macs is None) / total
    said = [f"{words.percent(idle)} of the time goes to kernels without a single MAC."]
    if unknown > 0:
        said.append(f"For {words.percent(unknown)} of the time the MACs are not known.")
    achieved = layer_charts.rates(run.layers)
    if len(achieved) > 1:
        best = max(achieved, key=lambda rate: rate.gmacs)
        slow = min(achieved[:_SLOWEST], key=lambda rate: rate.gmacs)
        said.append(
            f"Of the {min(_SLOWEST, len(achieved))} slowest kernels with MACs, "
            f"{name(slow.layer)} reaches {words.ms(slow.gmacs)} GMAC/s, where the best layer, "
            f"{name(best.layer)}, reaches {words.ms(best.gmacs)}."
        )
    return " ".join(said)


def name(layer: LayerTime) -> str:
    """Where in the model a kernel belongs, or the engine's name of it."""
    return layer.scope or ", ".join(layer.layers[:3]) or layer.kernel


def _sum(run: LayerRun) -> str:
    text = f"Instrumented, {words.plural(run.inferences, 'inference')}, {run.source}: "
    total = sum(layer.ms for layer in run.layers) if run.sum_ms is None else run.sum_ms
    text += f"the kernels' medians add up to {words.ms(total)} ms"
    if run.total_ms:
        ratio = words.percent(total / run.total_ms)
        text += (
            f", which is {ratio} of the {words.ms(run.total_ms)} ms measured without instruments"
        )
    else:
        text += "; there is no such figure without instruments"
    return f"{text}. {run.note}"


def _kinds(run: LayerRun) -> Markup:
    groups: dict[str, list[tuple[LayerTime, tuple[float, float]]]] = {}
    for layer, pair in zip(run.layers, layer_charts.shares(run.layers), strict=True):
        groups.setdefault(layer.kind, []).append((layer, pair))
    slowest = sorted(groups.items(), key=lambda item: -sum(layer.ms for layer, _ in item[1]))
    heads = columns("kind", "#kernels", "#ms", "time over MACs", "#of the time", "#of the MACs")
    rows = [_kind_row(kind, group) for kind, group in slowest]
    return table(f"Kernels of {run.runtime} by kind", heads, rows)


def _kind_row(kind: str, group: Sequence[tuple[LayerTime, tuple[float, float]]]) -> Sequence[Child]:
    time = sum(pair[0] for _, pair in group)
    macs = sum(pair[1] for _, pair in group)
    total = sum(layer.ms for layer, _ in group)
    shares = (words.percent(time), words.percent(macs))
    return (kind, len(group), words.ms(total), _bars(time, macs, 1.0), *shares)


def _slowest(run: LayerRun, most: int) -> Markup:
    both = list(zip(run.layers, layer_charts.shares(run.layers), strict=True))
    high = max(max(pair) for _, pair in both) or 1.0
    ordered = sorted(both, key=lambda item: -item[0].ms)
    heads = columns(
        "where in the model", "#ms", "time over MACs", "#of the time", "#MACs", "#of the MACs",
        "#GMAC/s", "kind", "kernel of the engine",
    )  # fmt: skip
    first = [_layer_row(*item, high) for item in ordered[:_SLOWEST]]
    shown = table(f"Slowest kernels of {run.runtime}", heads, first)
    if len(both) <= _SLOWEST or most < _WORTH_A_TABLE:
        return shown
    title, chosen = f"All {words.plural(len(both), 'kernel')} in the order of the graph", both
    if len(both) > most:
        title, chosen = f"The {most} slowest of {words.plural(len(both), 'kernel')}", ordered[:most]
    rows = [_layer_row(*item, high) for item in chosen]
    return tag("div", shown, folded(title, table(f"{title}, {run.runtime}", heads, rows)))


def _layer_row(layer: LayerTime, pair: tuple[float, float], high: float) -> Sequence[Child]:
    known = layer.macs is not None
    return (
        name(layer),
        words.ms(layer.ms),
        _bars(*pair, high),
        words.percent(pair[0]),
        words.count(layer.macs or 0) if known else "–",
        words.percent(pair[1]) if known else "–",
        words.ms(layer.macs / layer.ms / 1e6) if layer.macs and layer.ms > 0 else "–",
        layer.kind,
        layer.kernel,
    )


def _bars(time: float, macs: float, high: float) -> Markup:
    """The share of the time over the share of the MACs."""
    return tag(
        "svg",
        tag("rect", class_="time", x="0", y=2, height=6, width=percent(min(1.0, time / high))),
        tag("rect", class_="macs", x="0", y=10, height=6, width=percent(min(1.0, macs / high))),
        class_="range",
        aria_hidden="true",  # its figures stand beside it
        height=18,
    )


def _roofline(run: LayerRun, most: int) -> Markup:
    drawn = layer_charts.roofline(run, most)
    if drawn is None:
        return absent(Missing("Roofline", "the bytes that each layer moves are not known"))
    return tag("div", drawn, class_="card")
