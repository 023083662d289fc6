#!/bin/sh
# A few networks of torchvision against PyTorch, where PyTorch is installed: it is no small package,
# so `make test` does not fetch it. All networks: tests/check_torchvision.py
if ! "$PYTHON" -c 'import torchvision, onnx' 2>/dev/null; then
    echo 'python3-torchvision and python3-onnx are not installed: 0 passed, 0 failed, 1 skipped'
    exit 0
fi
exec "$PYTHON" tests/check_torchvision.py --quick
