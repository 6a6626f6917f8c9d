#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# gcc compiles SQLite from Debian's source, file by file on all CPUs; what it made computes what is known beforehand.
set -eu
mkdir -p /root/sqlite
cd /root/sqlite
tar -xf /usr/src/sqlite3.source --strip-components=1
./configure --disable-tcl --disable-readline >configure.log
make -j"$(nproc)" USE_AMALGAMATION=0 CFLAGS=-O1 libsqlite3.la shell.c >make.log
gcc -O1 shell.c .libs/libsqlite3.a -lm -o sqlite3
# Every source that went into the library has an object, named after it.
for object in *.o; do
    find . -name "${object%.o}.c" -print -quit
done | sort -u | xargs cat shell.c | wc -l | sed 's/^/lines compiled: /'

# A table with an index, a join, an aggregate over a window, text, floating point: sums that arithmetic knows.
cat >work.sql <<'END'
PRAGMA journal_mode=WAL;
CREATE TABLE number(n INTEGER PRIMARY KEY, square INTEGER, word TEXT, root REAL);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000)
    INSERT INTO number SELECT n, n * n, printf('%06x', n), n / 7.0 FROM c;
CREATE INDEX by_word ON number(word DESC);
SELECT sum(n), sum(square) FROM number;
SELECT count(*) FROM number a JOIN number b ON b.n = a.square WHERE a.n <= 1000;
SELECT max(w) FROM (SELECT sum(n) OVER (ORDER BY n ROWS 9 PRECEDING) w FROM number);
SELECT group_concat(word, '') FROM (SELECT word FROM number ORDER BY word DESC LIMIT 3);
SELECT count(*), sum(abs(root * 7.0 - n) < 1e-9) FROM number;
UPDATE number SET square = square - n WHERE n % 3 = 0;
DELETE FROM number WHERE word LIKE '%f';
SELECT count(*) FROM number;
VACUUM;
PRAGMA integrity_check;
END
./sqlite3 work.db <work.sql >result
cat >expected <<'END'
wal
5000050000|333338333350000
316
999955
0186a001869f01869e
100000|100000
93750
ok
END
diff expected result
