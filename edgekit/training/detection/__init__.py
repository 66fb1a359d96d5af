"""Training the detector of MiniVLM, which is called TEE there, on boxes with attributes.

    recipe.py      what a run depends on
    source.py      images with their boxes; coco.py from files, drawn.py the drawn scenes
    loading.py     the part of an image that a step sees, on a canvas of one size
    matching.py    which anchors and regions are of which box
    objective.py   the four losses of Faster R-CNN, and that of attributes
    evaluation.py  mAP, and how often attributes are right
    start.py       the weights to begin with
    runs.py        from a recipe to all of that

Ren et al., Faster R-CNN, NeurIPS 2015, arXiv 1506.01497.
"""
