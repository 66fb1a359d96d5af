"""Training on real data: recipes, an engine that resumes to the bit, evaluation.

recipe.py      what a run depends on
data/          where images come from, and in which order
augment.py     how they are varied
supervised.py  what is learnt
engine.py      the loop; state.py what it needs to go on
evaluation.py  accuracy, of a network and of a bundle in each runtime
"""
