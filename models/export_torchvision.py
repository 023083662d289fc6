#!/usr/bin/python3
"""Exports torchvision's classification networks, by name, to folders that convd serves."""

import re
import sys
import warnings

try:
    from torchvision import models as zoo

    import export_common
except ImportError as e:
    sys.exit(f"{e.name} is not installed: apt-get install python3-torchvision python3-onnx")


def names():
    return zoo.list_models(module=zoo)


def _sized(name, size):
    """What makes a network for that size, of those that are built for one."""
    if size is None:
        return {}
    if name.startswith("vit_"):
        return {"image_size": size}
    if name.startswith("maxvit"):
        return {"input_size": (size, size)}
    return {}


def load(name, pretrained, size):
    """The Network of that name, with trained or with fresh weights. size: of its input; None: that
    of its weights."""
    weights = zoo.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fresh weights that torchvision will draw otherwise
        module = zoo.get_model(name, weights=weights if pretrained else None,
                               **_sized(name, size))
    trained, resize_to = preset.crop_size[0], preset.resize_size[0]
    side = size or trained
    # GoogLeNet's and Inception's preset is the usual one: with trained weights they undo it inside.
    return export_common.Network(
        name=name, module=module, side=side, resize_to=round(resize_to * side / trained),
        filter=re.sub(".*[.]", "", str(preset.interpolation)).lower(),
        mean=preset.mean, std=preset.std, labels=weights.meta.get("categories"))


if __name__ == "__main__":
    sys.exit(export_common.main("torchvision", __doc__, names, load))
