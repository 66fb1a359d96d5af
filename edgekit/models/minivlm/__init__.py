"""MiniVLM: a vision-language model of two parts, and everything that is known of it.

    specs.py     what each variant is made of, and the published figures: no torch
    tee.py       the two-stage efficient feature extractor: image -> regions
    fusion.py    the transformer over text and regions, and its heads
    network.py   both as one network, its checkpoint

Wang, Hu, Li, Zhang, Gao, Zhao, Wang, Liu: "MiniVLM: A Smaller and Faster Vision-Language Model",
2020, arXiv 2012.06946. The authors released neither code nor weights.
"""
