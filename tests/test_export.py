"""The export scripts where what they stand on is not installed."""

import subprocess
import sys

import pytest

from small_net import ROOT


@pytest.mark.parametrize("missing, remedy", [("torchvision", "apt-get install"),
                                             ("timm", "pip install")])
def test_what_is_missing_is_said_in_one_line(missing, remedy):
    script = ROOT / "models" / f"export_{missing}.py"
    code = (f"import runpy, sys; sys.modules['{missing}'] = None; "
            f"sys.path.insert(0, {str(script.parent)!r}); "
            f"runpy.run_path({str(script)!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{missing} is not installed: {remedy}")
