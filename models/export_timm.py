#!/usr/bin/python3
"""Exports timm's classification networks, by name, to folders that convd serves."""

import sys

try:
    import timm

    import export_common
except ImportError as e:
    sys.exit(f"{e.name} is not installed: pip install timm onnx, in a virtual environment "
             "(python3 -m venv)")


def names():
    return sorted({*timm.list_models(), *timm.list_models(pretrained=True)})


def load(name, pretrained, size):
    """The Network of that name, with trained or with fresh weights. size: of its input; None: that
    of its weights."""
    sized = {}
    if size is not None and any(name.startswith(k) for k in ("vit_", "deit", "swin", "beit")):
        sized["img_size"] = size
    module = timm.create_model(name, pretrained=pretrained, exportable=True, **sized)
    wants = timm.data.resolve_data_config({}, model=module)
    channels, _, trained = wants["input_size"]
    if channels != 3:
        raise export_common.Failure(f"{name} takes {channels} channels, not the 3 of a picture")
    side = size or trained
    return export_common.Network(
        name=name, module=module, side=side, resize_to=round(side / wants["crop_pct"]),
        filter=wants["interpolation"], mean=wants["mean"], std=wants["std"], labels=_labels(module))


def _labels(module):
    """ImageNet's 1000 categories, which timm's networks keep in torchvision's order."""
    if module.num_classes != 1000:
        return None
    from torchvision.models._meta import _IMAGENET_CATEGORIES
    return _IMAGENET_CATEGORIES


if __name__ == "__main__":
    sys.exit(export_common.main("timm", __doc__, names, load))
