"""Turns a trained network into what this folder holds: model.onnx, config.json, labels.txt, sample
images, accuracy.json and the model card, all describing the same file."""

import hashlib
import io
import json
import pathlib
import re
import textwrap

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from torch.nn import functional

import data
from network import FashionNet

HERE = pathlib.Path(__file__).resolve().parent

OPSET = 13
NEAR_TIE = 1e-4    # two logits closer than this may change places in another runtime
SURE = 0.85        # the score a sample image must reach
SURE_LARGE = 0.7   # and its enlarged copy
N_SAMPLES = 12
ENLARGED = 280     # pixels, the side of the JPEG samples


def replace(path, content):
    """Writes a file whole or not at all: a server may be reading it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def unshare(model):
    """Gives every tensor its own copy again: torch stores equal ones once, behind Identity nodes,
    and the two batch norms in front of a sum do learn equal shifts."""
    stored = {t.name: t for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in stored]:
        copy = model.graph.initializer.add()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        model.graph.node.remove(node)


def export(net):
    """The network as an ONNX model, its BatchNormalization nodes as trained."""
    plain = FashionNet()
    plain.load_state_dict(net.state_dict())
    plain.eval()
    buffer = io.BytesIO()
    # PRESERVE: torch folds batch norm into the convolutions by itself otherwise.
    torch.onnx.export(plain, torch.zeros(1, 1, data.SIZE, data.SIZE), buffer,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                      opset_version=OPSET, input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    model = onnx.load_model_from_string(buffer.getvalue())
    unshare(model)
    return model


def check(model):
    """Fails unless every batch norm is there and runs on its stored statistics."""
    onnx.checker.check_model(model, full_check=True)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    expected = sum(isinstance(m, torch.nn.BatchNorm2d) for m in FashionNet().modules())
    if len(norms) != expected:
        raise SystemExit(f"{len(norms)} BatchNormalization nodes exported, not {expected}")
    for node in norms:
        training = [a.i for a in node.attribute if a.name == "training_mode"]
        if any(training) or len(node.output) != 1:
            raise SystemExit(f"{node.name} was exported for training")


def run(model, x):
    """Computes the graph's one output node by node, in x's precision."""
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).to(x.dtype)
              for t in model.graph.initializer}
    values[model.graph.input[0].name] = x
    for node in model.graph.node:
        a = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        v = [values[name] for name in node.input]
        if node.op_type == "Conv":
            y = functional.conv2d(functional.pad(v[0], (a["pads"][1], a["pads"][3],
                                                        a["pads"][0], a["pads"][2])),
                                  v[1], v[2] if len(v) > 2 else None, stride=a["strides"],
                                  dilation=a["dilations"], groups=a["group"])
        elif node.op_type == "BatchNormalization":
            y = functional.batch_norm(v[0], v[3], v[4], v[1], v[2], eps=a["epsilon"])
        elif node.op_type == "Relu":
            y = v[0].relu()
        elif node.op_type == "Add":
            y = v[0] + v[1]
        elif node.op_type == "MaxPool" and not any(a.get("pads", [])):
            y = functional.max_pool2d(v[0], a["kernel_shape"], a["strides"])
        elif node.op_type == "GlobalAveragePool":
            y = v[0].mean((2, 3), keepdim=True)
        elif node.op_type == "Flatten":
            y = v[0].flatten(a["axis"])
        elif node.op_type == "Gemm":
            y = functional.linear(v[0], v[1] if a["transB"] else v[1].T, v[2])
        else:
            raise SystemExit(f"{node.name}: {node.op_type} is not computed here")
        values[node.output[0]] = y
    return values[model.graph.output[0].name]


def logits_of(model, images, dtype):
    with torch.no_grad():
        return torch.cat([run(model, data.normalise(part, dtype)) for part in images.split(500)])


def measure(model, images, labels):
    """Number of right answers, indices of the near ties, and the logits. The count is that of
    float64; outside the near ties float32 must give the same answers."""
    exact = logits_of(model, images, torch.float64)
    top = exact.topk(2).values
    near = top[:, 0] - top[:, 1] < NEAR_TIE
    answers = exact.argmax(1)
    rough = logits_of(model, images, torch.float32).argmax(1)
    if bool(((rough != answers) & ~near).any()):
        raise SystemExit("float32 and float64 disagree on an image that is no near tie")
    return int((answers == labels).sum()), near.nonzero()[:, 0].tolist(), exact


def slug(label):
    return re.sub(r"[^a-z0-9]+", "_", data.LABELS[label].lower())


def choose(logits, labels):
    """Test indices of the samples: for each label its first sure and right image, then the next
    ones of any label. Sorted."""
    score, answer = logits.softmax(1).max(1)
    sure = ((answer == labels) & (score >= SURE)).nonzero()[:, 0].tolist()
    first = {}
    for i in sure:
        first.setdefault(int(labels[i]), i)
    chosen = list(first.values())
    rest = [i for i in sure if i not in chosen]
    return sorted(chosen + rest[:N_SAMPLES - len(chosen)])


def write_samples(model, images, labels, logits):
    """Writes the sample images; returns rows (file name, label, score of that label)."""
    folder = HERE / "samples"
    folder.mkdir(exist_ok=True)
    for old in [*folder.glob("*.png"), *folder.glob("*.jpg")]:
        old.unlink()
    rows = []
    chosen = choose(logits, labels)
    for i in chosen:
        label = int(labels[i])
        name = f"{i:04}_{slug(label)}.png"
        Image.fromarray(images[i].numpy()).save(folder / name, optimize=True)
        rows.append((name, label, float(logits[i].softmax(0)[label])))

    # The sort of picture a person sends: larger, and with the losses of JPEG.
    for i in chosen[:2]:
        label = int(labels[i])
        name = f"{i:04}_{slug(label)}_{ENLARGED}x{ENLARGED}.jpg"
        large = Image.fromarray(images[i].numpy()).resize((ENLARGED, ENLARGED), Image.BICUBIC)
        large.save(folder / name, quality=90)
        with Image.open(folder / name) as picture:
            small = picture.convert("L").resize((data.SIZE, data.SIZE), Image.BILINEAR)
        seen = logits_of(model, torch.from_numpy(np.array(small))[None], torch.float64)[0]
        score = float(seen.softmax(0)[label])
        if int(seen.argmax()) != label or score < SURE_LARGE:
            raise SystemExit(f"{name} should be {data.LABELS[label]}, which scores {score:.3f}")
        rows.append((name, label, score))
    return rows


def config():
    return {"labels": "labels.txt", "max_batch_size": 64,
            "input": {"color": "gray", "resize": "stretch", "scale": 1 / 255,
                      "mean": [data.MEAN], "std": [data.STD]},
            "scores": "softmax"}


def card(model, correct, near_ties, digest, size, rows, epochs, seconds, threads):
    parameters = sum(int(np.prod(t.dims)) for t in model.graph.initializer)
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if near_ties:
        ties = (f"The two highest logits of {len(near_ties)} test image(s) lie within {NEAR_TIE:g} "
                f"of each other (index {', '.join(map(str, near_ties))}): there another runtime's "
                "rounding may answer otherwise.")
    else:
        ties = (f"No test image's two highest logits lie within {NEAR_TIE:g} of each other, so "
                "every correct fp32 runtime gives this count exactly.")
    table = "\n".join(f"| `samples/{name}` | {data.LABELS[label]} | {score:.3f} |"
                      for name, label, score in rows)
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(data.LABELS))

    def fill(text):
        return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)

    return f"""\
# fashion: the bundled classifier

{fill("Says which of ten kinds of clothing a small grey picture shows. `train.py` writes this card "
      "and every file beside it but the `.py` files; `accuracy.json` holds its figures for "
      "programs.")}

| | |
|---|---|
| Accuracy | **{correct} of 10000** test images ({correct / 100:.2f} %) |
| File | `model.onnx`, {size} bytes, ONNX opset {OPSET} |
| SHA-256 | `{digest}` |
| Parameters | {parameters}, running statistics included; about 13 M multiply-adds an image |
| Licence | of the weights: this project's; of the data: MIT (below) |

{fill(ties)}

## Input and answer

- {textwrap.fill("`image`, float32 [N, 1, 28, 28], N free: a grey picture, the article white on "
                  "black. A pixel p of 0 to 255 becomes "
                  f"(p/255 - {data.MEAN}) / {data.STD}.", 98, subsequent_indent="  ")}
- {textwrap.fill("`logits`, float32 [N, 10]; softmax turns them into scores. "
                  f"{labels}.", 98, subsequent_indent="  ")}

{fill("`config.json` says the same to the server: pictures of any size and colour are turned grey "
      "and stretched to 28x28. Photographs on a white background are the wrong way round: invert "
      "them first.")}

## Expected answers

{fill("From the test set, named by index and label; the JPEG files are the same images enlarged. "
      "Training smooths the labels, so a sure answer scores about 0.9.")}

| file | label | score |
|---|---|---|
{table}

## Network

{fill(f"Residual (`network.py`). Its {norms} BatchNormalization nodes are kept in the file and "
      "stand where a server has to compile them in different ways:")}

| part | output | batch norm |
|---|---|---|
| 3x3 conv, ReLU; 2x2 max pool | 32 x 14 x 14 | after the conv |
| residual block of two 3x3 convs, 1x1 shortcut | 48 x 14 x 14 | after each conv |
| inverted bottleneck, 3x3 depthwise with stride 2 | 64 x 7 x 7 | after each conv |
| pre-activation block of two 3x3 convs | 64 x 7 x 7 | before ReLU before each conv |
| inverted bottleneck with shortcut, 3x3 depthwise | 64 x 7 x 7 | after each conv |
| ReLU, global average pool, linear | 10 | before the ReLU |

## Training

```
apt-get install python3-torch python3-onnx python3-pil dataset-fashion-mnist
/usr/bin/python3 models/fashion/train.py
```

{fill(f"This took {seconds / 60:.0f} minutes on {threads} threads of a busy machine (torch "
      f"{torch.__version__.split('a')[0]}, Debian 12): {epochs} epochs of all 60,000 training "
      "images, SGD with Nesterov momentum, two cycles of the learning rate, flips, shifts of two "
      "pixels, cutout in the first cycle, label smoothing; seeded. The weights are those of the "
      "last epoch. The second cycle was added because the first alone ends at 93.2 % of the test "
      "images; beyond that nothing was chosen by them.")}

## Data

{fill("[Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist), 60,000 training and "
      "10,000 test images of 28x28 grey pixels; Debian package `dataset-fashion-mnist`. The sample "
      "images are part of it. Its licence (MIT):")}

> Copyright © 2017 Zalando SE, https://tech.zalando.com
>
> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
> associated documentation files (the "Software"), to deal in the Software without restriction,
> including without limitation the rights to use, copy, modify, merge, publish, distribute,
> sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
> furnished to do so, subject to the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or
> substantial portions of the Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
> NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
> NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
> DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
> OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write(net, images, labels, epochs, seconds, threads):
    """Writes every file of this folder that is not a script. images, labels: the test set."""
    model = export(net)
    check(model)
    content = model.SerializeToString()
    correct, near_ties, logits = measure(model, images, labels)
    digest = hashlib.sha256(content).hexdigest()

    rows = write_samples(model, images, labels, logits)
    replace(HERE / "model.onnx", content)
    replace(HERE / "labels.txt", "".join(f"{name}\n" for name in data.LABELS).encode())
    replace(HERE / "config.json", (json.dumps(config(), indent=2) + "\n").encode())
    replace(HERE / "accuracy.json", (json.dumps(
        {"correct": correct, "of": len(labels), "sha256": digest, "near_ties": near_ties})
        + "\n").encode())
    replace(HERE / "README.md", card(model, correct, near_ties, digest, len(content), rows, epochs,
                                     seconds, threads).encode())
    print(f"model.onnx: {len(content)} bytes, {correct} of {len(labels)} right, "
          f"{len(near_ties)} near ties, sha256 {digest}")
