// SPDX-License-Identifier: Apache-2.0
//
// Two results of one case: the same, but for what the manuals leave undefined?
#ifndef WIRT_TESTS_DIFF_COMPARE_H
#define WIRT_TESTS_DIFF_COMPARE_H

#include "diff_case.h"

// NULL when the results agree, else the name of the first thing that differs.
const char *compare_results(const struct diff_case *c, const struct diff_result *native,
                            const struct diff_result *tier);

// For people: the bytes, their disassembly, the state before, and what differs after.
void print_difference(const struct diff_case *c, const struct diff_result *native,
                      const struct diff_result *tier, const char *tier_name, const char *what);

#endif
