// SPDX-License-Identifier: Apache-2.0
#ifndef WIRT_NODE_HELPER_HELPER_INTERNAL_H
#define WIRT_NODE_HELPER_HELPER_INTERNAL_H

#include "node/helper/helper.h"
#include "os/detach.h"

// Serves packets until the other end is closed.
void helper_serve(int socket);

// helper_pam.c: is this the user's password, says PAM? Takes seconds when it is not.
int helper_pam_check(const char *user, const char *password, struct err *err);

#endif
