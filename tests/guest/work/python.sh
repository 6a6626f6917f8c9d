#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# python3's own tests of some of its modules; the words choose which.
set -eu
exec python3 -m test -j"$(nproc)" "$@"
