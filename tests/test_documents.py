"""What the documents tell a reader to do works: every command of their ```sh blocks is run, and
every JSON and Python block is what it says."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import serving  # noqa: E402

DOCUMENTS = ["README.md", "server/README.md", "runtime/README.md", "models/README.md",
             "models/fashion/README.md", "docker/README.md", "CONTRIBUTING.md"]
# Run by CI itself, or beyond what a test may do to a machine. Targets of make must exist.
ELSEWHERE = re.compile(r"make\b|(sudo )?(apt-get|pip|git|docker|qemu)|cd |.*(export|train|release)\w*\.py")


def blocks(language):
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            line = text[:found.start()].count("\n") + 2
            yield pytest.param(found.group(1), id=f"{document}:{line}")


def commands(block):
    """Its lines, those that end with a backslash joined to the next, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line:
            yield line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that looks like a clone after `make`, with a model and a photo of the reader's own."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("models", "runtime", "server", "tests", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "build").mkdir()
    (folder / "build" / "convd").symlink_to(serving.BINARY)
    (folder / "build" / "convd-load").symlink_to(serving.BINARY.with_name("convd-load"))
    shutil.copy(ROOT / "models/fashion/model.onnx", folder / "model.onnx")
    shutil.copy(ROOT / "models/fashion/samples/0000_ankle_boot_280x280.jpg", folder / "cat.jpg")
    return folder


@contextlib.contextmanager
def inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def running(place):
    with inside(place):  # where model.onnx is a model called model
        s = serving.Server("models/fashion", "model.onnx", "--model-control")
    yield s
    assert s.stop() == 0


@pytest.mark.parametrize("block", blocks("sh"))
def test_commands(block, place, running):
    for line in commands(block):
        if ELSEWHERE.match(line):
            if line.startswith("make "):
                targets = [word for word in line.split()[1:] if re.fullmatch(r"[a-z-]+", word)]
                text = "".join(p.read_text() for p in (ROOT / "Makefile", *ROOT.glob("docker/*.mk")))
                for target in targets:
                    assert re.search(rf"^{target}:", text, re.M), line
            continue
        if " serve " in line and "--print-config" not in line:
            words = re.sub(r"--port \d+", "", line).split(" serve ")[1].split()
            with inside(place):
                s = serving.Server(*words)
            assert s.stop() == 0
            continue
        line = line.replace("http://localhost:8000", running.url)
        environment = {**os.environ, "PATH": f"{place / 'build'}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", line.replace("curl ", "curl -sS --fail-with-body ")],
                              cwd=place, env=environment, capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def like(pattern, text):
    """Whether text is what pattern shows, where an ellipsis stands for anything."""
    return re.fullmatch(".*?".join(map(re.escape, pattern.split("\u2026"))), text, re.S)


def test_transcript(place):
    """What README.md shows of `make run` and of the first request is what happens."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    run, answer = [block for language, block in found if language == ""][:2]
    head, command, *lines = run.splitlines()
    recipe = (ROOT / "Makefile").read_text().split("\nrun:")[1].split("\n\n")[0]
    recipe = recipe.replace(" $(if $(PORT),--port $(PORT))", "")
    assert head == "$ make run" and recipe.rstrip().endswith(command.replace("build/convd", "$(BIN)"))
    with inside(place):
        s = serving.Server(*command.split()[2:])
    picture, query = re.search(r"'@(\S+)' \\\n +'http://localhost:8000(\S+)'", text).groups()
    got = s.post(query, (ROOT / picture).read_bytes())
    assert s.stop() == 0
    assert got.status_code == 200 and like(answer.strip(), got.text.strip())
    log = "".join(s.log).replace("127.0.0.1", "localhost").replace(f":{s.port}", ":8000")
    for line in lines:
        line = line.replace(" (every address of this machine)", "")  # the tests' has one only
        assert any(like(line, shown) for shown in log.splitlines()), f"{line}\nis not in\n{log}"


def test_symptoms():
    """Sentences that the table of troubles quotes are said by the program, word by word."""
    table = (ROOT / "server/README.md").read_text().split("## Troubleshooting")[1].split("## Limits")[0]
    quoted = [q for row in table.splitlines() if row.startswith("| ")
              for q in re.findall("`([^`]*)`", row.split("|")[1]) if " " in q.strip("\u2026 ")]
    assert len(quoted) > 8
    said = [os.strerror(n) for n in errno.errorcode]
    for source in [*ROOT.glob("server/*.c"), *ROOT.glob("runtime/**/*.c")]:
        # Strings that stand behind one another are one.
        text = re.sub(r'"\s*(PRI\w+\s*)?"', lambda m: "d" if m.group(1) else "", source.read_text())
        said += re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)
    for sentence in quoted:
        part = ".*?".join(map(re.escape, sentence.split("\u2026")))  # of a format, what varies left out
        assert any(re.search(part, line) or says(line, sentence) for line in said), sentence


def says(line, sentence):
    """Whether a format has enough words of its own, and prints the sentence."""
    words = re.split(r"%[-.*\d]*(?:ll|l|z)?[a-zA-Z]", line)
    return sum(map(len, words)) >= 15 and re.search(".*".join(map(re.escape, words)), sentence)


@pytest.mark.parametrize("block", blocks("json"))
def test_json(block, place, tmp_path):
    """As a config.json it is taken."""
    config = json.loads(block)
    shutil.copy(ROOT / "models/fashion/labels.txt", tmp_path / "labels.txt")
    shutil.copy(place / "model.onnx", tmp_path / "model.onnx")
    # The bundled network is of one channel.
    config.get("input", {}).update(mean=[0.5], std=[0.5], color="gray")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert serving.Server(tmp_path).stop() == 0


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block, tmp_path):
    modules = re.search(r"^import (.*)$", block, re.M).group(1)
    python = os.environ.get("PYTHON", "/usr/bin/python3")
    names = [m.split(" as ")[0].strip() for m in modules.split(",")]
    if subprocess.run([python, "-c", "import " + ",".join(names)], capture_output=True).returncode:
        pytest.skip(f"{', '.join(names)}: not installed")
    # Weights would have to be fetched.
    block = block.replace('weights="DEFAULT"', "weights=None")
    done = subprocess.run([python, "-c", block], cwd=tmp_path, capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    if "export" not in block and "convert" not in block:  # it writes what lies beside a model
        (written,) = tmp_path.iterdir()
        assert len(written.read_text().splitlines()) == 1000
        return
    (exported,) = tmp_path.glob("*.onnx")
    report = subprocess.run([serving.BINARY, "inspect", exported, "--json"], capture_output=True,
                            text=True, timeout=300, check=True)
    report = json.loads(report.stdout)
    assert report["max_batch"] > 0 and len(report["batchnorms"]) > 0


def test_links():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / document).read_text()):
            if "://" not in target:
                assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"
