#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# archive DICTIONARY_BITS: 7-Zip's benchmark, which checks what it unpacks; then a tree goes into an archive and comes out unchanged.
set -eu
7zz b 1 -mmt="$(nproc)" -md="$1"
mkdir -p /root/archive
cd /root/archive
7zz a -bd -mx=3 -mmt="$(nproc)" tree.7z /usr/include >/dev/null
7zz t -bd tree.7z | grep -x 'Everything is Ok'
7zz x -bd -oout tree.7z >/dev/null
diff -r --no-dereference /usr/include out/include
