"""Pictures in, labels out; and the accuracy of the bundled model over the wire."""

import gzip
import io
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from serving import ROOT, binary_request, error_of, outputs_of

FASHION = ROOT / "models" / "fashion"
SAMPLES = FASHION / "samples"
CLASSIFY = "/v2/models/fashion/classify"
LABELS = (FASHION / "labels.txt").read_text().split("\n")[:10]
DATASET = pathlib.Path("/usr/share/datasets/fashion-mnist")


def label_in_name(path):
    """0019_t_shirt_top.png -> tshirttop"""
    return "".join(c for c in path.stem[5:].split("_280")[0] if c.isalpha()).lower()


def plain(label):
    return "".join(c for c in label if c.isalpha()).lower()


def samples():
    return sorted(SAMPLES.iterdir())


@pytest.mark.parametrize("path", samples(), ids=lambda p: p.name)
def test_samples(server, path):
    answer = server.post(CLASSIFY + "?top=3", path.read_bytes())
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model_name"] == "fashion" and body["model_version"] == "1"
    [prediction] = body["predictions"]
    assert list(prediction) == ["image", "classes"] and prediction["image"] == 0
    classes = prediction["classes"]
    assert len(classes) == 3
    assert plain(classes[0]["label"]) == label_in_name(path)
    assert all(list(c) == ["index", "label", "score"] for c in classes)
    assert all(LABELS[c["index"]] == c["label"] for c in classes)
    scores = [c["score"] for c in classes]
    assert scores == sorted(scores, reverse=True) and 0.5 < scores[0] <= 1


def test_default_model(server):
    picture = samples()[0].read_bytes()
    assert server.post("/classify", picture).json() == server.post(CLASSIFY, picture).json()


def test_versions(server):
    picture = samples()[0].read_bytes()
    path = "/v2/models/fashion/versions/1/classify"
    assert server.post(path, picture).json() == server.post(CLASSIFY, picture).json()


def test_top(server):
    picture = samples()[0].read_bytes()
    assert len(server.post(CLASSIFY, picture).json()["predictions"][0]["classes"]) == 5
    [all_of_them] = server.post(CLASSIFY + "?top=1000", picture).json()["predictions"]
    assert len(all_of_them["classes"]) == 10
    assert sum(c["score"] for c in all_of_them["classes"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("top", ["0", "-1", "x", "", "1.5", "1001", "99999999999999999999"])
def test_bad_top(server, top):
    answer = server.post(CLASSIFY + "?top=" + top, samples()[0].read_bytes())
    assert "'top'" in error_of(answer, 400)


def test_top_in_the_query(server):
    picture = samples()[0].read_bytes()
    [decoded] = server.post(CLASSIFY + "?top=%32", picture).json()["predictions"]
    assert len(decoded["classes"]) == 2
    for query in "top=1&top=2", "top=1&top&top=1":
        assert "more than once" in error_of(server.post(CLASSIFY + "?" + query, picture), 400)
    for query, name in ("tpo=3", "tpo"), ("top=3&x", "x"), ("Top=3", "Top"):
        said = error_of(server.post(CLASSIFY + "?" + query, picture), 400)
        assert f"'{name}', but 'top'" in said
    for query in "top", "top=%", "top=%3", "top=%zz", "top=%00", "top=1%00", "top=1%20", "top=%2b1":
        assert "'top'" in error_of(server.post(CLASSIFY + "?" + query, picture), 400)


def form(*parts):
    """A body and its headers; of each part (field, more of its Content-Disposition, bytes)."""
    body = b"".join(b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
                    % (field, more, content) for field, more, content in parts)
    return body + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def test_form_without_file_names(server):
    """Each picture has its answer, whether it came with a file's name or not."""
    good = samples()[0].read_bytes()
    body, headers = form((b"a", b"", good), (b"comment", b"", "größer\r\n".encode()),
                         (b"b", b"", good), (b"none", b"", b""))
    predictions = server.post(CLASSIFY, body, headers=headers).json()["predictions"]
    assert [p["image"] for p in predictions] == [0, 1]


@pytest.mark.parametrize("broken,says", [
    (b"\x89PMG" + samples()[0].read_bytes()[4:], "part 1 of the form, counted from 0, field 'b'"),
    (b"\xff\xd9\xff\xe0 no jpeg", "part 1 of the form, counted from 0, field 'b'"),
    (b"text\0with a zero", "part 1 of the form, counted from 0, field 'b'"),
    (samples()[0].read_bytes()[:100], "image 1 (field 'b')"),
])
def test_form_with_a_broken_picture(server, broken, says):
    """It does not vanish because nothing says that it is a file."""
    good = samples()[0].read_bytes()
    body, headers = form((b"a", b"", good), (b"b", b"", broken))
    assert says in error_of(server.post(CLASSIFY, body, headers=headers), 400)


def test_form_with_text_among_pictures(server):
    good = samples()[0].read_bytes()
    for parts in [(b"a", b"", b"text"), (b"a", b"", good)], [(b"a", b"", good), (b"a", b"", b"text")]:
        body, headers = form(*parts)
        number = 0 if parts[0][2] == b"text" else 1
        assert (f"part {number} of the form, counted from 0, field 'a'"
                in error_of(server.post(CLASSIFY, body, headers=headers), 400))
    body, headers = form((b"x", b"", b"text"), (b"a", b"\r\nContent-Type: image/png", b"text"),
                         (b"b", b"", good))
    assert "part 1" in error_of(server.post(CLASSIFY, body, headers=headers), 400)
    body, headers = form(*[(b"x", b"", b"y")] * 1100, (b"b", b"", good))
    assert "1024 parts" in error_of(server.post(CLASSIFY, body, headers=headers), 413)


def test_form(server):
    files = [("file", (p.name, p.read_bytes())) for p in samples()]
    answer = server.session.post(server.url + CLASSIFY + "?top=1", files=files,
                                 data={"comment": "not a picture"})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [p["image"] for p in predictions] == list(range(len(files)))
    assert [p["name"] for p in predictions] == [p.name for p in samples()]
    for prediction, path in zip(predictions, samples()):
        assert plain(prediction["classes"][0]["label"]) == label_in_name(path)
        alone = server.post(CLASSIFY + "?top=1", path.read_bytes()).json()["predictions"][0]
        assert alone["classes"] == prediction["classes"], "the batch changed the answer"


def test_form_bad(server):
    url = server.url + CLASSIFY
    good = samples()[0].read_bytes()
    answer = server.session.post(url, files=[("f", ("a.png", good)), ("f", ("b.gif", b"GIF89a"))])
    assert "image 1 ('b.gif')" in error_of(answer, 400)
    answer = server.session.post(url, data={"a": "b"}, files={"x": (None, "no file")})
    assert "holds no file" in error_of(answer, 400)
    answer = server.session.post(url, files=[("f", ("a.png", good))] * 129)
    assert "128" in error_of(answer, 413)
    answer = server.post(CLASSIFY, b"--x", headers={"Content-Type": "multipart/form-data"})
    assert "boundary" in error_of(answer, 400)


PNG = samples()[0].read_bytes()
BAD_PICTURES = {
    "empty": b"",
    "text": b"this is not a picture",
    "gif": b"GIF89a" + bytes(100),
    "json": b'{"instances":[]}',
    "png signature only": PNG[:8],
    "png cut short": PNG[:len(PNG) // 2],
    "png damaged": PNG[:60] + bytes(20) + PNG[80:],
    "png of a billion pixels": PNG[:16] + b"\x00\x01\x00\x00\x00\x01\x00\x00" + PNG[24:],
    "jpeg start only": b"\xff\xd8\xff\xe0",
    "webp header only": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures(server, name):
    answer = server.post(CLASSIFY, BAD_PICTURES[name])
    assert answer.status_code in (400, 413), answer.text
    error_of(answer, answer.status_code)


def test_a_picture_that_curl_changed(server):
    for body in (PNG, PNG.replace(b"\r", b"").replace(b"\n", b"")):
        for kind, told in ("application/x-www-form-urlencoded", True), ("image/png", False):
            answer = server.post(CLASSIFY, body, headers={"Content-Type": kind})
            if body == PNG:
                assert answer.status_code == 200
            else:
                assert ("--data-binary" in error_of(answer, 400)) == told


def test_not_a_picture_model(server):
    answer = server.post("/v2/models/pair/classify", samples()[0].read_bytes())
    assert "model 'pair' takes no pictures" in error_of(answer, 400)


def test_not_a_classifier(server):
    """What puts out a picture has no classes."""
    answer = server.post("/v2/models/volume/classify", samples()[0].read_bytes())
    assert "no classifier: its output of [1,3,224,224]" in error_of(answer, 400)


def load_test_set():
    def idx(name, header):
        with gzip.open(DATASET / f"t10k-{name}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=header)

    return idx("images-idx3", 16).reshape(-1, 1, 28, 28), idx("labels-idx1", 8)


@pytest.mark.skipif(not DATASET.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_accuracy(server):
    """All 10,000 test images in batches: exactly as many right as the model's card says."""
    card = json.loads((FASHION / "accuracy.json").read_text())
    images, labels = load_test_set()
    images = ((images.astype(np.float32) / np.float32(255) - np.float32(0.286))
              / np.float32(0.353)).astype(np.float32)
    correct = 0
    near = np.isin(np.arange(len(labels)), card["near_ties"])
    unsure = 0
    for i in range(0, len(images), 250):
        body, headers = binary_request({"image": images[i:i + 250]},
                                       parameters={"binary_data_output": True})
        logits = outputs_of(server.post("/v2/models/fashion/infer", body, headers=headers))["logits"]
        right = logits.argmax(axis=1) == labels[i:i + 250]
        correct += int(right.sum())
        unsure += int(near[i:i + 250].sum())
    assert len(labels) == card["of"]
    assert abs(correct - card["correct"]) <= unsure
    print(f"{correct} of {len(labels)} right")


def test_large_jpegs(server, serve):
    """They are decoded at a fraction of their size, unless exactness is asked for."""
    path = next(p for p in samples() if label_in_name(p) == plain("Ankle boot"))
    file = io.BytesIO()
    with PIL.Image.open(path) as picture:
        picture.convert("L").resize((1120, 1120), PIL.Image.BICUBIC).save(file, "JPEG", quality=95)
    exact = serve("--exact", paths=[FASHION])
    scores = [{c["label"]: c["score"] for c in
               s.post(CLASSIFY + "?top=10", file.getvalue()).json()["predictions"][0]["classes"]}
              for s in (server, exact)]
    assert max(scores[0], key=scores[0].get) == max(scores[1], key=scores[1].get) == "Ankle boot"
    assert all(abs(scores[0][k] - scores[1][k]) < 0.02 for k in LABELS)
    assert scores[0] != scores[1]
