"""Batch norm in training mode normalises by whatever shares the batch: served if asked for only."""

import json

import numpy as np
import pytest

import onnxfile as ox
import serving
from serving import binary_request, error_of, outputs_of, wait_until

SAYS = ("node 'y' (BatchNormalization): training_mode = 1 normalises by the statistics of whatever "
        "shares the batch; export the model for inference, or allow it with allow_batch_statistics")
ALLOWED = json.dumps({"allow_batch_statistics": True, "max_batch_size": 8})


def training():
    """y = x normalised over the batch, for each of 3 channels."""
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    return ox.model([ox.node("BatchNormalization", ["x", "one", "zero", "zero", "one"], ["y"],
                             ox.integer("training_mode", 1))],
                    [ox.value_info("x", ox.FLOAT, ["N", 3, 2, 2])],
                    [ox.value_info("y", ox.FLOAT, ["N", 3, 2, 2])],
                    [ox.floats("one", ones), ox.floats("zero", zeros)])


@pytest.fixture
def folder(tmp_path):
    models = {"training": training(), "relu": serving.one_node("Relu", ox.FLOAT, ["N", 3])}
    for name, content in models.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(content)
    return tmp_path


def states(server):
    return {m["name"]: (m["state"], m["reason"])
            for m in server.post("/v2/repository/index").json()}


def check_answers(server):
    """Two samples differ from what each gets alone, which is what the standard asks for."""
    x = np.random.default_rng(2).normal(3, 2, (2, 3, 2, 2)).astype(np.float32)
    for part in x, x[:1]:
        body, headers = binary_request({"x": part})
        y = outputs_of(server.post("/v2/models/training/infer", body, headers=headers))["y"]
        over = {"axis": (0, 2, 3), "keepdims": True}
        want = (part - part.mean(**over)) / np.sqrt(part.var(**over) + 1e-5)
        np.testing.assert_allclose(y, want, atol=1e-5)


def test_it_is_refused_and_the_others_are_served(serve, folder):
    server = serve("--model-control", paths=[folder])
    state, reason = states(server)["training"]
    assert state == "UNAVAILABLE" and SAYS in reason
    assert states(server)["relu"] == ("READY", "")
    wait_until(lambda: any("normalises by the statistics" in line for line in server.log))
    assert server.get("/v2/models/training/ready").status_code != 200
    assert "normalises by the statistics" in server.post("/v2/repository/models/training/load").text


def test_a_file_beside_it_allows_it(serve, folder):
    (folder / "training" / "config.json").write_text(ALLOWED)
    server = serve(paths=[folder])
    assert states(server) == {"training": ("READY", ""), "relu": ("READY", "")}
    check_answers(server)


def test_a_request_to_load_it_allows_it(serve, folder):
    server = serve("--model-control", paths=[folder])
    refused = {"parameters": {"config": json.dumps({"allow_batch_statistics": "yes"})}}
    assert "allow_batch_statistics: expected true or false" in error_of(
        server.post("/v2/repository/models/training/load", json.dumps(refused)), 400)
    told = {"parameters": {"config": ALLOWED}}
    assert server.post("/v2/repository/models/training/load", json.dumps(told)).status_code == 200
    check_answers(server)
