#!/bin/sh
# Decoding and resizing against Pillow.
exec "${PYTHON:-/usr/bin/python3}" tests/check_pillow.py
