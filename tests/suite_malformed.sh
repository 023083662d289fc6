#!/bin/sh
# Broken model files, where the folder with them is at hand.
exec "${PYTHON:-/usr/bin/python3}" tests/malformed.py "${BIN:-build/convd}"
