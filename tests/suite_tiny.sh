#!/bin/sh
# The tiny models against answers by the operators' definitions.
exec "${BIN:=build/convd}" test models/tiny
