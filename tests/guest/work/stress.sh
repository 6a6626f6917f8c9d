#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# stress SECONDS: stressors of many kinds side by side, each of which verifies what it computes, moves or stores.
set -eu
cd /var/tmp
exec stress-ng --verify --timeout "$1" --cpu 2 --cpu-method all --matrix 1 --vm 2 --vm-bytes 96M --vm-method all \
    --mmap 1 --mmap-bytes 32M --fork 1 --switch 1 --pipe 1 --futex 1 --mutex 1 --timer 1 --signal 1 --atomic 1 --shm 1 --hdd 1 --hdd-bytes 32M \
    --crypt 1 --zlib 1 --qsort 1 --bsearch 1 --str 1 --vecmath 1 --fp 1 --regs 1 --vdso 1 --memcpy 1
