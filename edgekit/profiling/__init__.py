"""What a model costs, counted and measured. Boards install this: neither torch nor onnx here.

    counts.py             MACs, FLOPs, parameters and bytes of a graph, per layer
    coefficients.py       which products are a coefficient times a feature map
    activation_memory.py  peak memory of activations under a sequential plan
    counts_file.py        a bundle's counts.json
    published.py          published figures, judged by their own rounding

and what it takes here, measured in fresh processes:

    request.py   plan.py        what is asked for, as a list of processes
    job.py       worker.py      one process: how it is started, and how it ends
    opening.py   scopes.py      what it opens, and what one inference is
    clock.py     latency.py     warm-up and samples;  sustained.py  a long run as a series
    layers.py    memory.py      time per layer, and memory, apart
    references.py               known networks, timed in turns
    statistics.py  verdict.py   figures, their intervals, and whether to believe them
    profile.py   assemble.py    all of it;  result.py  saving.py  what it says, and as a file
    environment/  sensors.py  power.py  the machine and its state: read, never set
    compare.py   budget.py      one result beside another, or beside a limit
    remote/      emulation/     on a board over ssh; on an ARM core without a board
    report/                     as a page

The same code runs on the machine that exports and on the board.
"""
