#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest.sh SCALE REPETITIONS [NAME...]: the workloads inside the busybox guest, then some of busybox's own programs.
scale=$1 repetitions=$2
shift 2
names=" $* "
mib=$(awk -v s="$scale" 'BEGIN { n = int(24 * s + 0.5); print n < 1 ? 1 : n }')
cd /dev/shm || exit 1
wirt-bench data data "$mib"

program() {
    if [ "$names" = "  " ] || [ "${names#* "$1" }" != "$names" ]; then
        name=$1
        shift
        wirt-bench time "$name" "$mib" "$@"
    fi
}

echo "INFO kernel $(uname -r) cpus $(nproc) scale $scale clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
while [ "$repetitions" -gt 0 ]; do
    repetitions=$((repetitions - 1))
    # shellcheck disable=SC2086
    wirt-bench run "$scale" $names
    program bb_gzip busybox gzip -c data
    program bb_sha256 busybox sha256sum data
    program bb_awk busybox awk '{ for (i = 1; i <= NF && i < 2000; i++) seen[$i]++ } END { print length(seen) }' RS=z data
    program bb_sort sh -c 'tr " " "\n" <data | head -n 200000 | sort | uniq -c'
    program bb_sh sh -c "i=0; while [ \$i -lt ${mib}00 ]; do i=\$((i + 1)); /bin/true; done"
done
