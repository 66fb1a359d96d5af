"""What a model costs. A board installs this: nothing here imports torch or onnx.

    counts.py    multiply-accumulates and parameters of a graph, per layer

The same code runs on the machine that exports and on the board.
"""
