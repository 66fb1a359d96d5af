"""The artifact edgekit makes: a folder, or one ``.edgekit`` zip of it.

manifest.json   schema version, model, weights, target, interface, artifacts, checksums
model.*         one or more files per runtime
labels.txt      one class name a line
golden.npz      one input and the source network's output for it
counts.json     what the model and each artifact's graph compute, node by node
README.md       model card

manifest.py  what a manifest says (the dataclasses), and its JSON
schema.py    dataclasses <-> strict JSON, with the path of what is wrong
reading.py   open_bundle: everything is verified before anything else sees a file
writing.py   write_bundle: a temporary sibling, then one rename; never half a bundle
checks.py    what a model file must look like before a runtime parses it
agreement.py how equal is equal: relative error, and its bound per precision
counts.py    counts.json, a file that earlier bundles lack
golden.py    golden.npz, byte for byte the same on every machine
"""

from edgekit.bundle.agreement import PARITY_TOLERANCE, relative_error
from edgekit.bundle.golden import Golden, golden_bytes
from edgekit.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Artifact,
    Figure,
    FileFacts,
    Manifest,
    ModelFacts,
    Parity,
    PassRecord,
    Preprocessing,
    Skipped,
    TensorSpec,
    WeightsFacts,
    manifest_from_json,
    manifest_to_json,
)
from edgekit.bundle.reading import Bundle, open_bundle
from edgekit.bundle.writing import write_bundle

__all__ = [
    "MANIFEST",
    "PARITY_TOLERANCE",
    "SCHEMA_VERSION",
    "Artifact",
    "Bundle",
    "Figure",
    "FileFacts",
    "Golden",
    "Manifest",
    "ModelFacts",
    "Parity",
    "PassRecord",
    "Preprocessing",
    "Skipped",
    "TensorSpec",
    "WeightsFacts",
    "golden_bytes",
    "manifest_from_json",
    "manifest_to_json",
    "open_bundle",
    "relative_error",
    "write_bundle",
]
