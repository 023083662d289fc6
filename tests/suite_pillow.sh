#!/bin/sh
# Decoding and resizing against Pillow, which is right to the bit: with each level of instructions.
for isa in scalar avx2 avx512; do
    RT_ISA=$isa "${PYTHON:-/usr/bin/python3}" tests/check_pillow.py || exit
done
