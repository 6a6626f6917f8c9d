// SPDX-License-Identifier: Apache-2.0
//
// Cases under a tier of the engine: a machine with as much memory as the case has pages, page tables that map them at
// the case's addresses, user mode, and an IDT whose handlers are never executed: where the exception was delivered to
// says which it was.
#ifndef WIRT_TESTS_DIFF_TIER_H
#define WIRT_TESTS_DIFF_TIER_H

#include "diff_case.h"

struct tier;

// `name`: "interpreter" or "engine"; `model`: as for --cpu. NULL when there is none, and the reason is printed.
struct tier *tier_create(const char *name, const char *model);
void tier_destroy(struct tier *tier);
void tier_run(struct tier *tier, const struct diff_case *c, struct diff_result *result);

// Does the tier's CPU model offer the form's feature?
bool tier_offers(const struct tier *tier, const struct insn_form *form);

#endif
