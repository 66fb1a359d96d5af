"""The bundle's README: what it is, how it was proven, and what it is not fit for."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.bundle import Artifact, Manifest
from edgekit.bundle.manifest import OWN


def model_card(manifest: Manifest) -> str:
    """Markdown for ``README.md`` of a bundle, made of its manifest alone."""
    sections = (_head, _weights, _interface, _artifacts, _counts, _published, _use)
    return "\n".join(line for section in sections for line in section(manifest))


def _head(manifest: Manifest) -> Iterator[str]:
    yield f"# {manifest.model.id} for {manifest.target}"
    yield ""
    task = f", {manifest.model.task}" if manifest.model.task else ""
    yield f"{manifest.model.family}{task}, {manifest.precision}, ONNX opset {manifest.opset}."
    for note in manifest.model.notes:
        yield f"\n{note}"
    yield ""


def _weights(manifest: Manifest) -> Iterator[str]:
    weights = manifest.weights
    yield "## Weights"
    yield ""
    if weights.random:
        yield "**Random. Fit for latency work, not for predictions.**"
        yield ""
    yield f"Source: {weights.source}  "
    yield f"SHA-256: `{weights.sha256}`  "
    yield f"Licence: {weights.licence or 'not stated'}"
    if weights.note and not weights.random:
        yield f"\n{weights.note}"
    yield ""


def _interface(manifest: Manifest) -> Iterator[str]:
    yield "## Interface"
    yield ""
    yield "| | name | dtype | shape | layout |"
    yield "|-|-|-|-|-|"
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            shape = " x ".join("any" if size == -1 else str(size) for size in spec.shape)
            yield f"| {kind} | {spec.name} | {spec.dtype} | {shape} | {spec.layout or '-'} |"
    images = manifest.preprocessing
    if images is not None:
        height, width = images.crop
        yield ""
        yield (
            f"Images: RGB, shorter side {images.resize} ({images.interpolation}), centre crop "
            f"{height} x {width}, scaled to 0..1, mean {list(images.mean)}, "
            f"std {list(images.std)}."
        )
    yield ""


def _artifacts(manifest: Manifest) -> Iterator[str]:
    yield "## Artifacts"
    yield ""
    yield "| runtime | files | largest relative error | against | allowed |"
    yield "|-|-|-|-|-|"
    for artifact in manifest.artifacts:
        yield _artifact_row(artifact)
    for artifact in manifest.artifacts:
        for what, outcome in artifact.checks.items():
            yield f"\n{artifact.runtime}, {what}: {outcome}"
    for skipped in manifest.skipped:
        yield f"\n{skipped.runtime}: {skipped.reason}"
    yield ""


def _artifact_row(artifact: Artifact) -> str:
    files = ", ".join(artifact.files)
    if artifact.parity is None:
        return f"| {artifact.runtime} | {files} | not measured on the host | - | - |"
    parity = artifact.parity
    worst = max(parity.max_relative_error.values(), default=0.0)
    against = f"{parity.reference}, {parity.inputs} inputs"
    return f"| {artifact.runtime} | {files} | {worst:.2g} | {against} | {parity.tolerance:g} |"


def _counts(manifest: Manifest) -> Iterator[str]:
    model = manifest.model
    yield f"## Counts{_batch(manifest)}, of the model as defined"
    yield ""
    yield "| params | MACs | element-wise multiplies | MAdds | FLOPs |"
    yield "|-|-|-|-|-|"
    yield (
        f"| {model.params:,} | {model.macs:,} | {model.elementwise_multiplies:,} "
        f"| {model.madds:,} | {model.flops:,} |"
    )
    for artifact in manifest.artifacts:
        if artifact.macs != model.macs * manifest.batch:
            each = " an image" if manifest.batch > 1 else ""
            macs = artifact.macs // manifest.batch
            yield f"\nThe graph in {artifact.files[0]} does {macs:,} MACs{each}."
    yield ""


def _batch(manifest: Manifest) -> str:
    """The batch that is counted, where every input has one and the same."""
    if manifest.model.family != OWN:
        return ", batch 1"
    batches = {spec.shape[0] if spec.layout.startswith("N") else 0 for spec in manifest.inputs}
    batch = batches.pop() if len(batches) == 1 else 0
    return f", batch {batch}" if batch else ""


def _published(manifest: Manifest) -> Iterator[str]:
    if not manifest.model.published:
        return
    yield "## Published, not measured here"
    yield ""
    yield "Of the weights that the source released, and so is the way images enter: weights of"
    yield "another training have figures of their own and may want another resize, mean or std."
    yield ""
    yield "| | figure | source |"
    yield "|-|-|-|"
    for figure in manifest.model.published:
        yield f"| {figure.metric} | {figure.value} | {figure.source} |"
    yield ""


def _use(manifest: Manifest) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield "import edgekit"
    yield 'model = edgekit.load("this folder")'
    one = manifest.batch == 1
    if one and manifest.preprocessing is not None and manifest.model.task == "classification":
        yield 'model.predict("photo.jpg", top=5)'
    names = ", ".join(f'"{spec.name}": array' for spec in manifest.inputs)
    yield f"model.run({{{names}}})"
    yield "```"
    yield ""
