// SPDX-License-Identifier: Apache-2.0
//
// `wirt doctor`: what this host can do, what wirt therefore uses, what is lost, and what to change for more. The checks (doctor_checks.c) fill findings;
// doctor.c prints them.
#ifndef WIRT_CLI_DOCTOR_H
#define WIRT_CLI_DOCTOR_H

#include <stdbool.h>

enum doctor_state { DOCTOR_GOOD, DOCTOR_PARTLY, DOCTOR_MISSING, DOCTOR_STATE_COUNT };

struct doctor_finding {
    const char *name;
    enum doctor_state state;
    bool vital;         // without it no machine runs
    char found[320];    // what there is
    const char *use;    // what wirt does with it, as it is
    const char *lost;   // NULL: nothing
    const char *change; // NULL: nothing would help, or nothing is needed
};

// In the order of the table; the first is KVM.
typedef void doctor_check(struct doctor_finding *finding);
extern doctor_check *const doctor_checks[];
extern const unsigned doctor_check_count;

#endif
