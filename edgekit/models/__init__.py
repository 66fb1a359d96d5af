"""The zoo: networks, where their weights come from, and published facts about them.

    zoo.py          VARIANTS, one torch-free row per network
    create.py       a row -> a network in eval mode, with weights
    weights.py      where weights come from, and how they are read
    random_init.py  seeded weights that keep every layer alive, for latency work
    counts.py       parameters, MACs and element-wise multiplies of a network
    micronet.py     MicroNet

Importing this package imports neither torch nor any network.
"""
