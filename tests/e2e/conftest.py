"""Fixtures: one server for the tests that leave it as it is, and one for each that does not."""

import subprocess

import pytest

import serving


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return serving.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(models):
    """Serves models/fashion (the default model) and the tests' own."""
    # Its connections outlive the tests that use servers of their own.
    s = serving.Server(serving.ROOT / "models" / "fashion", models, "--idle-timeout", "3600")
    yield s
    assert s.stop() == 0, "".join(s.log)


@pytest.fixture
def serve(models):
    """Starts a server with these arguments; without a path among them it gets the tests' models."""
    started = []

    def start(*args, paths=None, env=None):
        s = serving.Server(*(paths if paths is not None else [models]), *args, env=env)
        started.append(s)
        return s

    yield start
    for s in started:
        if s.process.poll() is None:
            s.process.terminate()  # what it did is counted (make coverage) when it ends by itself
            try:
                s.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                s.process.kill()
            s.stop()
