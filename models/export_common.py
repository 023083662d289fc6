"""What the export scripts share: their command line, random networks that behave like trained
ones, the ONNX file, and the files beside it that convd reads."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import urllib.error
import warnings

import onnx
import torch
from torch import nn

INPUT, OUTPUT = "image", "logits"
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
N_PICTURES = 16  # that make random statistics: those of few would not hold for others
TWO_GIB = 2**31  # no protobuf message is larger; the tensors lie in a file of their own then


@dataclasses.dataclass
class Network:
    """A network in PyTorch and what it expects of a picture."""

    name: str
    module: nn.Module
    side: int       # pixels of its square input
    resize_to: int  # pixels of the picture's short side, before the middle is cut out
    mean: list      # of a channel, in units of white = 1
    std: list
    filter: str = "bilinear"
    labels: list = None


class Failure(Exception):
    """One sentence for the user."""


def pictures(n, side, seed):
    """n images [n, 3, side, side] of about zero mean and unit variance, with patches of every size,
    so that a network does not take them all for the same."""
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.functional.interpolate(torch.randn(n, 3, cells, cells, generator=generator),
                                        (side, side), mode="bilinear", align_corners=False)
              for cells in (1, 3, 9, 27, side)]
    return sum(layers) / len(layers) ** 0.5


def _draw(module, name, p, generator):
    """New values for a parameter p whose elements are all the same when fresh: biases, scales, and
    heads that training starts from zero."""
    if name == "weight" and isinstance(module, NORMS):
        sign = (torch.rand(p.shape, generator=generator) < 1 / 16).float() * -2 + 1
        return (0.5 + torch.rand(p.shape, generator=generator)) * sign
    spread = 0.1 if name.endswith("bias") else (p.shape[0] / p.numel()) ** 0.5
    return spread * torch.randn(p.shape, generator=generator)


def _unit_variance(layer, _, y):
    factor = 1 / y.std().clamp(min=1e-6)
    for p in layer.parameters(recurse=False):
        p.mul_(factor)
    return y * factor


@torch.no_grad()
def randomise(module, side, seed, shift=0):
    """Makes a freshly made network behave like a trained one: its running statistics are those of
    random pictures, shaken a little, its scales and shifts differ from channel to channel, and
    activations neither fade nor explode. Norms add `shift` on the average: the more, the fewer
    activations are cut off, and the less a deep network amplifies rounding. Leaves it in evaluation
    mode."""
    generator = torch.Generator().manual_seed(seed)
    module.eval()
    norms, hooks = [], []
    for m in module.modules():
        for name, p in m.named_parameters(recurse=False):
            if p.numel() > 1 and bool((p == p.flatten()[0]).all()):
                p.copy_(_draw(m, name, p, generator))
                if name == "bias" and isinstance(m, NORMS):
                    p.add_(shift)
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            norms.append((m, m.momentum))
            m.train()
            m.momentum = 1.0  # the statistics become those of the one batch below
        elif isinstance(m, (nn.Conv2d, nn.Linear)):
            hooks.append(m.register_forward_hook(_unit_variance))
    module(pictures(N_PICTURES if norms else 4, side, seed))
    for hook in hooks:
        hook.remove()
    for m, momentum in norms:
        m.eval()
        m.momentum = momentum
        shake = torch.randn(2, m.num_features, generator=generator)
        m.running_mean.add_(0.05 * shake[0] * m.running_var.sqrt())
        m.running_var.mul_((0.1 * shake[1]).exp())


def _count_norms(network):
    """How many batch norms one picture passes, which also shows that the network takes its size."""
    calls = []
    hooks = [m.register_forward_hook(lambda *_: calls.append(1)) for m in network.module.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    try:
        with torch.no_grad():
            network.module(torch.zeros(1, 3, network.side, network.side))
    except (RuntimeError, AssertionError) as e:
        raise Failure(f"{network.name} does not take pictures of {network.side} x {network.side}: "
                      f"{str(e).splitlines()[0]}") from e
    for hook in hooks:
        hook.remove()
    return len(calls)


def export(network, path, opset):
    """Writes the network to path (and path.data when it is 2 GiB or more) with every batch norm as
    a node of its own and a free batch axis; returns the number of batch norms. Fails unless the
    file is valid and they are all there."""
    network.module.eval()
    expected = _count_norms(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes become constants, which is meant
        # PRESERVE: torch folds batch norm into the convolutions by itself otherwise.
        torch.onnx.export(network.module, torch.zeros(2, 3, network.side, network.side), str(path),
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                          opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
                          dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}})
    if sum(p.numel() * p.element_size() for p in network.module.state_dict().values()) >= TWO_GIB:
        _gather_tensors(path)
    onnx.checker.check_model(str(path))
    model = onnx.load(str(path), load_external_data=False)
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    if len(norms) != expected:
        raise Failure(f"{network.name}: {len(norms)} BatchNormalization nodes were exported, but "
                      f"a picture passes {expected}")
    for node in norms:
        if any(a.name == "training_mode" and a.i != 0 for a in node.attribute):
            raise Failure(f"{network.name}: {node.name} was exported for training")
    return len(norms)


def _gather_tensors(path):
    """Moves tensors that torch left in one file each to path.data."""
    model = onnx.load(str(path))
    scattered = {e.value for t in model.graph.initializer for e in t.external_data
                 if e.key == "location"}
    parts = [p for p in path.parent.iterdir() if p != path]
    onnx.save(model, str(path), save_as_external_data=True, location=path.name + ".data")
    for part in parts:
        if part.name in scattered or part.name != path.name + ".data":
            part.unlink()


def config(network, max_batch):
    return {"labels": "labels.txt",
            "max_batch_size": max_batch,
            "input": {"color": "rgb", "resize": "crop", "resize_to": network.resize_to,
                      "filter": network.filter, "scale": 1 / 255, "mean": list(network.mean),
                      "std": list(network.std)},
            "scores": "softmax"}


def write(network, folder, opset, max_batch):
    """Writes the network's folder, model.onnx last: a server may be watching it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as work:
        work = pathlib.Path(work)
        norms = export(network, work / "model.onnx", opset)
        settings = config(network, max_batch)
        if network.labels:
            (work / "labels.txt").write_text("".join(f"{label}\n" for label in network.labels))
        else:
            del settings["labels"]
        (work / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        size = sum(p.stat().st_size for p in work.iterdir() if p.name.startswith("model.onnx"))
        for name in ["labels.txt", "config.json", "model.onnx.data", "model.onnx"]:
            if (work / name).exists():
                os.replace(work / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    print(f"  {folder / 'model.onnx'}: {size / 1e6:.1f} MB, {norms} batch norms", flush=True)


def _arguments(library, doc):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a network of {library}")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    parser.add_argument("--opset", type=int, default=13, help="of the ONNX file (default: 13)")
    parser.add_argument("--size", type=int, metavar="PIXELS",
                        help="side of the input (default: that of the weights)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--pretrained", action="store_true",
                      help="trained weights, fetched from the network (the default)")
    kind.add_argument("--random", action="store_true",
                      help="random weights and statistics, for measuring and testing")
    parser.add_argument("--seed", type=int, default=1, help="of --random (default: 1)")
    parser.add_argument("--max-batch", type=int, default=8, metavar="N",
                        help="pictures a server may run at once (default: 8)")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("."), metavar="DIR",
                        help="where NAME/ is made (default: here)")
    return parser


def main(library, doc, names, load):
    """The command line. names() lists the networks; load(name, pretrained, size) makes a Network,
    or raises URLError or OSError when its weights cannot be fetched, ValueError or Failure when
    there is something else about it."""
    parser = _arguments(library, doc)
    options = parser.parse_args()
    known = names()
    if options.list:
        print("\n".join(known))
        return 0
    if not options.names:
        parser.error("which network? --list prints the names")
    for name in options.names:
        if name not in known:
            near = [k for k in known if k.startswith(name[:4])]
            parser.error(f"{library} has no network {name}"
                         + (f"; it has {', '.join(near[:8])}" if near else ""))
    failed = 0
    for i, name in enumerate(options.names):
        kind = "random weights" if options.random else "fetching weights"
        print(f"[{i + 1}/{len(options.names)}] {name}: {kind}", flush=True)
        try:
            torch.manual_seed(options.seed)
            network = load(name, not options.random, options.size)
            if options.random:
                randomise(network.module, network.side, options.seed)
            print(f"  writing ONNX, opset {options.opset}, {network.side} x {network.side}",
                  flush=True)
            write(network, options.output / name, options.opset, options.max_batch)
        except urllib.error.URLError as e:
            print(f"  its weights could not be fetched ({e.reason}); --random exports the network "
                  "without them", file=sys.stderr)
            failed += 1
        except (Failure, ValueError, OSError, torch.onnx.errors.OnnxExporterError) as e:
            print(f"  {str(e).strip().splitlines()[0]}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0
