"""What is exported: a graph, the function it must equal, and the facts that go with it.

zoo id         -> zoo_source     checked against torch
nn.Module      -> module_source  checked against torch
.onnx file     -> onnx_source    checked against unoptimised onnxruntime
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.bundle import Figure, ModelFacts, Preprocessing, TensorSpec, WeightsFacts
from edgekit.bundle.manifest import DTYPES, OWN, PART
from edgekit.bundle.reading import parse_labels
from edgekit.errors import BundleError, UsageError
from edgekit.export.batch import (
    DYNAMIC,
    Batch,
    any_batch,
    batches,
    images,
    of_one_image,
    with_batch,
)
from edgekit.export.onnx_file import to_bytes
from edgekit.export.onnx_reference import onnx_function
from edgekit.export.parity import Function, Reference, make_reference, reference_of
from edgekit.export.trace import eval_mode, trace
from edgekit.export.user_onnx import InputShapes, load_onnx
from edgekit.models.building import CreatedModel, create
from edgekit.models.download import public_url
from edgekit.models.labels import labels_of
from edgekit.models.preparation import preprocessing, variant_preprocessing
from edgekit.models.zoo import get_variant
from edgekit.profiling.counts import Counts, count_graph

OPSET = 18  # the dialect TensorRT 10 and 11 take, and the lowest the exporter writes

Progress = Callable[[str], None]

# What the logits of a network of the zoo are called, by task.
_OUTPUT_NAMES = {"classification": "logits", "embedding": "embedding"}


@dataclass(frozen=True)
class Source:
    """Everything the pipeline needs to know, whatever the user handed over.

    Attributes:
        graph: with static shapes.
        reference: what every artifact must compute.
        counts: of the model as defined: of a network of the zoo for one image.
        facts: what the manifest says of it, as are ``weights`` to ``labels``.
        warnings: what the user must be told.
        dynamic_batch: whether artifacts take any batch, where ``graph`` is of one image.
    """

    graph: ir.Model
    reference: Reference
    counts: Counts
    facts: ModelFacts
    weights: WeightsFacts
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    dynamic_batch: bool = False


@dataclass(frozen=True)
class ImageFacts:
    """How a user's model sees images: mean and std a channel, on 0..1, and class names."""

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    labels: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse numbers that no image has, before the slow part.

        Raises:
            UsageError: one of mean and std without the other, or a value that is not on 0..1.
        """
        if (self.mean is None) != (self.std is None):
            has, lacks = ("mean", "std") if self.std is None else ("std", "mean")
            raise UsageError(
                f"{has} is given without {lacks}: give both, --mean and --std; "
                "mean 0,0,0 with std 1,1,1 leaves the image on 0..1"
            )
        for name, values in (("mean", self.mean or ()), ("std", self.std or ())):
            if not all(0 <= value <= 1 for value in values):
                raise UsageError(
                    f"{name} {','.join(f'{value:g}' for value in values)} is not on 0..1, where "
                    "images are: divide what is for 0..255 by 255"
                )
        if not all(value > 0 for value in self.std or ()):
            raise UsageError(f"std must be positive, got {self.std}")


def zoo_source(
    model_id: str,
    *,
    weights: str = "auto",
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    drop_head: bool = False,
    batch: Batch = 1,
    progress: Progress = lambda _: None,
) -> Source:
    """A network of the zoo with its weights, for ``batch`` images at once.

    Raises:
        UnknownNameError: no such model.
        UsageError: an impossible size, or an option that does not apply.
        CheckpointError, DownloadError: the weights cannot be had or do not fit.
    """
    variant = get_variant(model_id)
    shown = public_url(weights) if "://" in weights else weights  # an address may hold secrets
    progress(f"build {model_id}, weights {shown}")
    created = create(
        model_id,
        weights,
        num_classes=num_classes,
        image_size=image_size,
        seed=seed,
        drop_head=drop_head,
    )
    size = created.image_size
    example = torch.zeros(images(batch), 3, size, size)
    progress("trace to ONNX: half a minute and more for deep and dynamic networks")
    output = _OUTPUT_NAMES[created.task]
    graph = trace(created.module, [example], ["image"], [output], opset=OPSET)
    params = _torch_params(created.module)
    counts = replace(of_one_image(count_graph(graph), images(batch)), params=params)
    facts = ModelFacts(
        id=variant.id,
        family=variant.family,
        task=created.task,
        params=params,
        macs=counts.macs,
        elementwise_multiplies=counts.elementwise_multiplies,
        published=tuple(Figure(p.metric, p.value, p.source) for p in variant.published),
        notes=tuple(note for note in (variant.approximate, *variant.notes) if note),
    )
    inputs, outputs = _interface(graph)
    function, free = _torch_function(created.module, inputs, outputs), batch == DYNAMIC
    return Source(
        graph=graph,
        reference=make_reference("torch", function, with_batch(inputs, 1), batches(batch)),
        counts=counts,
        facts=facts,
        weights=_weights_facts(created),
        inputs=any_batch(inputs) if free else inputs,
        outputs=any_batch(outputs) if free else outputs,
        preprocessing=variant_preprocessing(variant, size),
        labels=_labels(created),
        warnings=tuple(text for text in (created.weights.note, created.weights.why) if text),
        dynamic_batch=free,
    )


def module_source(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    *,
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    image: ImageFacts,
    progress: Progress,
) -> Source:
    """A user's own ``nn.Module``, its shapes fixed by ``example_inputs``.

    Raises:
        UsageError: not a module on the CPU, or inputs or names that do not fit it.
        GraphError: it cannot be traced.
    """
    _check_module(module, example_inputs)
    progress("trace to ONNX")
    with eval_mode(module):
        count = _count_outputs(module, example_inputs)
        input_names = _names("input", input_names, len(example_inputs))
        output_names = _names("output", output_names, count)
        graph = trace(module, example_inputs, input_names, output_names, opset=OPSET)
        inputs, outputs = _interface(graph)
        reference = make_reference("torch", _torch_function(module, inputs, outputs), inputs)
    counts = replace(count_graph(graph), params=_torch_params(module))
    facts = _own_facts(name, counts, image)
    digest = hashlib.sha256(to_bytes(graph)).hexdigest()
    return Source(
        graph=graph,
        reference=reference,
        counts=counts,
        facts=facts,
        weights=WeightsFacts(source="the module handed over", sha256=digest, random=False),
        inputs=inputs,
        outputs=outputs,
        preprocessing=_image_preprocessing(inputs, image),
        labels=_checked_labels(image.labels, outputs),
        warnings=facts.notes,
    )


def part_source(
    module: nn.Module,
    samples: Sequence[Mapping[str, NDArray[np.generic]]],
    output_names: Sequence[str],
    *,
    name: str,
    weights: WeightsFacts,
    notes: tuple[str, ...] = (),
) -> Source:
    """One of several graphs of a network, compared on the inputs that it gets from the others.

    Args:
        module: in eval mode.
        samples: inputs by name, in the order of the module's arguments; the first is the golden.
        output_names: in the order of its outputs.
        name: model id of the part.
        weights: where they came from.
        notes: of the manifest.

    Raises:
        GraphError: it cannot be traced, or an output of it is zero for all samples.
    """
    names = list(samples[0])
    graph = trace(
        module, [torch.from_numpy(samples[0][key]) for key in names], names, output_names,
        opset=OPSET,
    )  # fmt: skip
    inputs, outputs = _interface(graph)
    params = _torch_params(module)
    counts = replace(count_graph(graph), params=params)
    facts = ModelFacts(
        name, PART, "", params, counts.macs, counts.elementwise_multiplies, notes=notes
    )
    reference = reference_of("torch", _torch_function(module, inputs, outputs), samples)
    return Source(graph, reference, counts, facts, weights, inputs, outputs, None, ())


def onnx_source(
    path: Path, *, input_shapes: InputShapes, image: ImageFacts, progress: Progress
) -> Source:
    """A user's own ``.onnx`` file.

    Raises:
        GraphError, UsageError: as ``load_onnx``.
    """
    progress(f"read {path.name}")
    user = load_onnx(path, opset=OPSET, input_shapes=input_shapes)
    graph = user.graph
    inputs, outputs = _interface(graph)
    counts = count_graph(graph)
    facts = _own_facts(path.stem, counts, image)
    return Source(
        graph=graph,
        reference=make_reference("unoptimised onnxruntime", onnx_function(user.original), inputs),
        counts=counts,
        facts=facts,
        weights=WeightsFacts(
            source=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), random=False
        ),
        inputs=inputs,
        outputs=outputs,
        preprocessing=_image_preprocessing(inputs, image),
        labels=_checked_labels(image.labels, outputs),
        warnings=facts.notes,
    )


def _interface(graph: ir.Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = tuple(_spec(value) for value in graph.graph.inputs)
    outputs = tuple(_spec(value) for value in graph.graph.outputs)
    return inputs, outputs


def _spec(value: ir.Value) -> TensorSpec:
    if value.shape is None or value.dtype is None or value.name is None:
        raise UsageError(f"{value.name!r} has no known shape or dtype, and edgekit needs both")
    shape = value.shape.numpy()
    if str(value.dtype.numpy()) not in DTYPES:
        raise UsageError(
            f"{value.name!r} is {value.dtype.name.lower()}, and a bundle takes "
            f"{', '.join(DTYPES)}: export the model in float32, model.float()"
        )
    return TensorSpec(value.name, str(value.dtype.numpy()), shape, _LAYOUTS.get(len(shape), ""))


_LAYOUTS = {2: "NC", 3: "NCW", 4: "NCHW", 5: "NCDHW"}


def _torch_function(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Function:
    def run(samples: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        with torch.no_grad():
            result = module(*(torch.from_numpy(samples[spec.name]) for spec in inputs))
        flat = _flatten(result)
        return {
            spec.name: value.detach().numpy() for spec, value in zip(outputs, flat, strict=True)
        }

    return run


def _check_module(module: object, example_inputs: Sequence[object]) -> None:
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"a torch.nn.Module is exported, got {type(module).__name__}: wrap it in one"
        )
    tensors = (*module.parameters(), *module.buffers(), *example_inputs)
    devices = {str(tensor.device) for tensor in tensors if isinstance(tensor, torch.Tensor)}
    if devices - {"cpu"}:
        raise UsageError(
            f"the module or its inputs are on {', '.join(sorted(devices - {'cpu'}))}: export from "
            "the CPU, module.cpu() and tensor.cpu()"
        )


def _names(stem: str, given: Sequence[str], count: int) -> tuple[str, ...]:
    """The names given, one a tensor; else ``stem``, or ``stem_0, stem_1 ...``."""
    if not given:
        return (stem,) if count == 1 else tuple(f"{stem}_{i}" for i in range(count))
    if len(given) != count:
        raise UsageError(f"{len(given)} {stem} names ({', '.join(given)}) for {count} {stem}s")
    return tuple(given)


def _count_outputs(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> int:
    try:
        with torch.no_grad():
            return len(_flatten(module(*example_inputs)))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise UsageError(f"the module does not take the example inputs: {first_line}") from error


def _flatten(result: object) -> list[torch.Tensor]:
    """Outputs in the exporter's order: tuples, lists and dicts are walked."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        return [tensor for item in result for tensor in _flatten(item)]
    raise UsageError(f"the module returns {type(result).__name__}; tensors are expected")


def _own_facts(name: str, counts: Counts, image: ImageFacts) -> ModelFacts:
    missing = ", ".join(counts.missing)
    return ModelFacts(
        id=name,
        family=OWN,
        task="classification" if image.labels else "",
        params=counts.params,
        macs=counts.macs,
        elementwise_multiplies=counts.elementwise_multiplies,
        notes=(f"The MACs are a lower bound: without those of {missing}.",) if missing else (),
    )


def _torch_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights_facts(created: CreatedModel) -> WeightsFacts:
    info = created.weights
    return WeightsFacts(
        source=info.source,
        sha256=info.sha256,
        random=info.random,
        licence=_licence(created),
        note=info.note,
    )


def _licence(created: CreatedModel) -> str:
    """Of the released weights; of a user's own file only if that is what the file is."""
    released, info = created.variant.weights, created.weights
    if released is None or info.source.startswith("random"):
        return ""
    known = released.sha256 or released.sha256_prefix
    is_released = info.source == released.url or (known and info.sha256.startswith(known))
    if is_released and not info.random:
        return released.licence
    # A checkpoint of a user's own is under whatever licence its author chose.
    return f"if the weights are the published ones or made from them: {released.licence}"


def _labels(created: CreatedModel) -> tuple[str, ...]:
    """Class names; an embedding has none, and classes of a row without names have numbers."""
    if created.task == "embedding":
        return ()
    if created.labels:
        return created.labels
    if not created.variant.labels:
        return tuple(f"class {number}" for number in range(created.num_classes))
    return labels_of(created.variant, created.num_classes)


def _image_preprocessing(inputs: Sequence[TensorSpec], image: ImageFacts) -> Preprocessing | None:
    if image.mean is None or image.std is None:
        return None
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[:2] != (1, 3):
        raise UsageError(
            f"mean and std are for one image input [1, 3, height, width]; this model takes "
            f"{', '.join(f'{spec.name} {list(spec.shape)}' for spec in inputs)}"
        )
    return preprocessing((shape[2], shape[3]), image.mean, image.std)


def _checked_labels(labels: tuple[str, ...], outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    classes = outputs[0].shape[-1] if outputs[0].shape else 0
    if labels and len(labels) != classes:
        raise UsageError(
            f"{len(labels)} labels for output {outputs[0].name!r} of {classes} classes"
        )
    try:
        kept = parse_labels("labels", "".join(f"{label}\n" for label in labels).encode())
    except BundleError as error:
        raise UsageError(str(error)) from error
    if labels and kept != labels:
        raise UsageError("a label has a line break in it: labels are one a line")
    return labels
