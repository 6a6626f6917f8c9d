#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# openssl [FILE...]: OpenSSL's own test of its algorithms, compiled here, checks the installed library on its files of known answers (all
# without words): by the CPU's instructions for it, and without them. Then the speed programs, which check signatures.
set -eu
mkdir -p /root/openssl
cd /root/openssl
tar -xf /usr/src/openssl.source --strip-components=1
mkdir -p out
cd out
flags="-O1 -w -I../include -I.. -I../test -I../apps/include"
for source in ../test/testutil/*.c ../apps/lib/opt.c; do
    gcc $flags -c "$source"
done
ar rc libtest.a ./*.o
gcc $flags ../test/evp_test.c libtest.a -o evp_test -lssl -lcrypto
cd ../test/recipes/30-test_evp_data
if [ $# -eq 0 ]; then set -- *.txt; fi
for file; do
    for capabilities in default :0 0:0; do
        if [ $capabilities = default ]; then unset OPENSSL_ia32cap; else export OPENSSL_ia32cap=$capabilities; fi
        if ! ../../../out/evp_test "$file" >log 2>&1; then
            cat log
            echo "$file failed with capabilities $capabilities"
            exit 1
        fi
    done
done
echo "known answers: $# files"
unset OPENSSL_ia32cap
for algorithm in aes-256-gcm chacha20-poly1305 sha256 sha512 sha3-256; do
    openssl speed -seconds 1 -bytes 4096 -evp $algorithm 2>&1 | tail -n 1
done
openssl speed -seconds 1 -multi "$(nproc)" rsa2048 ecdsap256 ed25519 ecdhx25519 >speed.log 2>&1 || { cat speed.log; exit 1; }
grep -E '^ *(rsa|[0-9]+ bits)' speed.log
if grep -iE 'failure|error:' speed.log; then exit 1; fi
