"""The zoo: networks, where their weights come from, and published facts about them.

    zoo.py          VARIANTS, one torch-free row per network
    labels.py       class names of a row
    create.py       a row -> a network in eval mode, with weights
    weights.py      auto | FILE | URL | hf://owner/repo/file | official | random -> a local file
    download.py     one file over http, with limits on everything
    checkpoint.py   a file -> tensors -> a network, strictly
    random_init.py  seeded weights that keep every layer alive, for latency work
    micronet.py     MicroNet

Importing this package imports neither torch nor any network.
"""
