"""What a model costs. A board installs this: nothing here imports torch or onnx.

    counts.py             MACs, FLOPs, parameters and bytes of a graph, per layer
    coefficients.py       which products are a coefficient times a feature map
    activation_memory.py  peak memory of activations under a sequential plan
    counts_file.py        a bundle's counts.json
    published.py          published figures, judged by their own rounding

The same code runs on the machine that exports and on the board.
"""
