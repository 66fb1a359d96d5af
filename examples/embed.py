"""The three lines an app needs.

edgekit export micronet-m1 --target x86 -o out/m1-x86
python examples/embed.py out/m1-x86 examples/photo.jpg
"""

import sys

import edgekit

with edgekit.load(sys.argv[1]) as model:
    for label, score in model.predict(sys.argv[2], top=5):
        print(f"{score:.4f}  {label}")
