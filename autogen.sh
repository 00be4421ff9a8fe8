#!/bin/sh
# Makes configure and Makefile.in. Run once after a clone; afterwards make does it by itself.
set -e
cd "$(dirname "$0")"
scripts/list-sources
mkdir -p build-aux
exec autoreconf --install --force "$@"
