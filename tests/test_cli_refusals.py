"""Commands that few people give, each refused in one line that names its reason: the rows that the
tests of the commands leave out."""

import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from small_net import CONVD, ENVIRONMENT

FLOAT = TensorProto.FLOAT


def network(path, nodes, inputs, outputs):
    """inputs and outputs: {name: shape}; a shape of None is left out."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in outputs.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(path))
    return path


def relu(path, shape):
    return network(path, [helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Names of the files that the rows below speak of."""
    folder = tmp_path_factory.mktemp("refusals")
    made = {"folder": folder, "free": relu(folder / "free.onnx", ["N", "A", "B"]),
            "plain": relu(folder / "plain.onnx", ["N", 3]), "three": relu(folder / "three.onnx", [3, 2]),
            "pictures": network(folder / "pictures.onnx", [helper.make_node("Flatten", ["x"], ["y"])],
                                {"x": [2, 3, 8, 8]}, {"y": [2, 192]}),
            "mixed": network(folder / "mixed" / "model.onnx",
                             [helper.make_node("Flatten", ["x"], ["y"]),
                              helper.make_node("Relu", ["z"], ["w"])],
                             {"x": ["N", 3, 8, 8], "z": ["N", 2]}, {"y": ["N", 192], "w": ["N", 2]}),
            "outputs": network(folder / "outputs.onnx",
                               [helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(300)],
                               {"x": ["N", 2]}, {f"y{i}": ["N", 2] for i in range(300)}),
            "inputs": network(folder / "inputs.onnx",
                              [helper.make_node("Sum", [f"x{i}" for i in range(300)], ["y"])],
                              {f"x{i}": ["N", 2] for i in range(300)}, {"y": ["N", 2]})}
    for name in "a", "b":
        relu(folder / "two" / f"{name}.onnx", ["N", 3])
    np.save(folder / "x.npy", np.ones((1, 2), np.float32))
    recorded = folder / "recorded" / "test_data_set_0"
    recorded.mkdir(parents=True)
    relu(folder / "recorded" / "model.onnx", ["N", 2])
    tensor = numpy_helper.from_array(np.ones((1, 2), np.float32), "x")
    (recorded / "input_0.pb").write_bytes(tensor.SerializeToString())
    many = folder / "many" / "test_data_set_0"
    many.mkdir(parents=True)
    (folder / "many" / "model.onnx").write_bytes(made["outputs"].read_bytes())
    for name in "input_0.pb", "output_0.pb":
        (many / name).write_bytes(tensor.SerializeToString())
    fed = folder / "fed" / "test_data_set_0"
    fed.mkdir(parents=True)
    (folder / "fed" / "model.onnx").write_bytes(made["plain"].read_bytes())
    for i in range(257):
        (fed / f"input_{i}.pb").write_bytes(tensor.SerializeToString())
    (folder / "mixed" / "config.json").write_text('{"input": {"name": "x"}}')
    relu(folder / "timed.onnx", ["N", 2])
    (folder / "timed.onnx.tune").write_bytes(b" " * ((1 << 20) + 1))
    (folder / "empty_keys").write_text("# none\n")
    (folder / "bad_keys").write_text("a key with blanks in its middle\n")
    (folder / "short_keys").write_text("short\n")
    (folder / "big.json").write_bytes(b" " * (2 << 20))
    return made


ROWS = [
    (["inspect", "{free}", "--threads", "2"], "has sizes that are only known at run time"),
    (["inspect", "{folder}/timed.onnx"], "larger than 1048576 bytes"),
    (["bench", "{plain}", "--shape", "1xx3"], "--shape 1xx3: expected sizes"),
    (["bench", "{free}", "--shape", "1x2000000000x2000000000"], "too large"),
    (["bench", "{three}", "--batch", "2"], "--batch: the model's batch is fixed"),
    (["bench", "{plain}", "--threads", ",".join(["1"] * 99)], "--threads: more than"),
    (["bench", "{plain}"] + ["--shape", "1x3"] * 65, "given more than 64 times"),
    (["predict", "{folder}/mixed", "{folder}/x.npy"], "takes 2 inputs, not just a picture"),
    (["predict", "{pictures}", "{folder}/x.npy"], "takes exactly 2 pictures a run"),
    (["predict", "{folder}/two", "{folder}/x.npy"], "holds several models, a and b among them"),
    (["run", "{outputs}", "--input", "{folder}/x.npy", "--output", "{folder}/out"],
     "more than 256 outputs"),
    (["run", "{inputs}", "--input", "{folder}/x.npy", "--output", "{folder}/out"],
     "has 300 inputs, more than 256"),
    (["run", "{plain}", "--input", "{folder}", "--output", "{folder}/out"], ".npy or .pb"),
    (["run", "{folder}/recorded/model.onnx", "--input", "{folder}/x.npy", "--output",
      "{plain}/out"], "is a file, not a folder"),
    (["serve", "--config", "{folder}", "{plain}"], "is a folder, not a file"),
    (["serve", "--config", "/dev/zero", "{plain}"], "is not a regular file"),
    (["serve", "--config", "{folder}/big.json", "{plain}"], "more than the 1048576 that are read"),
    (["serve", "--api-keys", "{folder}/empty_keys", "{plain}"], "holds no key"),
    (["serve", "--api-keys", "{folder}/bad_keys", "{plain}"], "is neither a letter"),
    (["serve", "--api-keys", "{folder}/short_keys", "{plain}"], "characters, not 5"),
    (["serve", "--print-config"] + ["{plain}"] * 65, "more than 64 paths"),
    (["serve", "x" * 5000], "which is too long"),
    (["serve", "{folder}/none/.."], "there is no such file or folder"),
    (["serve", "--cors", "nonsense", "{plain}"], "is no origin"),
    (["serve", "--tls-cert", "x", "{plain}"], "belong together"),
    (["serve", "--access-log", "{folder}/none/log", "{plain}"], "the access log cannot be opened"),
    (["serve", "--host", "192.0.2.1", "--port", "0", "{plain}"], "cannot listen"),
    (["test", "{folder}/many"], "has 300 outputs, more than 256"),
    (["test", "{folder}/fed"], "more than 256 tensors"),
    (["health", "http://no.such.host.invalid"], "no.such.host.invalid: "),
    (["health", "http://127.0.0.1:1/a"], "without a path"),
    (["health", "ftp://127.0.0.1"], "got 'ftp://127.0.0.1'"),
    (["health", "http://127.0.0.1:x"], "is no port"),
    (["health", "http://:80"], "the host is missing"),
]


@pytest.mark.parametrize("args,says", ROWS, ids=lambda v: v if isinstance(v, str) else None)
def test_refusals(files, args, says):
    done = subprocess.run([CONVD, *(a.format(**files) for a in args)], capture_output=True,
                          text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert says in done.stderr + done.stdout


def test_no_model_at_all(tmp_path):
    """Far from the one that comes with the program."""
    binary = shutil.copy(CONVD, tmp_path)
    done = subprocess.run([binary, "serve"], capture_output=True, text=True, timeout=120,
                          env=ENVIRONMENT, cwd=tmp_path)
    assert done.returncode in (1, 2) and "which model?" in done.stderr


def test_nothing_recorded(files):
    done = subprocess.run([CONVD, "test", files["folder"] / "recorded"], capture_output=True, text=True,
                          timeout=120, env=ENVIRONMENT)
    assert "no recorded output" in done.stdout + done.stderr


def test_a_server_that_hangs_up():
    """convd health, and one that takes the connection and ends it at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def hang_up():
            listening.accept()[0].close()
        thread = threading.Thread(target=hang_up)
        thread.start()
        done = subprocess.run([CONVD, "health", f"http://127.0.0.1:{listening.getsockname()[1]}"],
                              capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
        thread.join()
    assert done.returncode == 1
    assert "the connection" in done.stderr or "reset" in done.stderr


def test_a_host_too_long():
    """An address in numbers may be written with any number of zeros."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = "0" * 600 + "177.0.0.1"
        done = subprocess.run([CONVD, "health", f"http://{host}:{listener.getsockname()[1]}"],
                              capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 1 and "host and path are longer than 512" in done.stderr
