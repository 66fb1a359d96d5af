"""A vision-language bundle at work: image and text in, answer, caption or score out.

regions.py   between the graphs: anchors, proposals, RoIAlign, what is kept
text.py      vocabulary, and the sequences that the transformer takes
model.py     the stages in their order, and what an app calls
"""
