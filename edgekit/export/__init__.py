"""From torch or ONNX to a bundle: trace, exact rewrites, one lowering per runtime, proof.

    pipeline.py      the main path; start here
    sources.py       what is exported: a network of the zoo, a module, a user's .onnx
    passes/          one graph rewrite a file, and the order they run in
    batch.py         how many images at once, and the axis of any number of them
    lowerings.py     one row a runtime: canonical graph in, files out
    tflite/          the lowering that is ours all the way
    parity.py        does an artifact compute what its source computes?
    model_card.py    the README of a bundle

Needs the [export] extra: this is the part of edgekit that a board does not install.
"""
