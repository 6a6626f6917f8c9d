// SPDX-License-Identifier: Apache-2.0
#include <security/pam_appl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/helper/helper_internal.h"

// Answers every question with the password; says nothing to messages.
static int converse(int count, const struct pam_message **messages, struct pam_response **responses,
                    void *password)
{
    struct pam_response *answers = calloc((size_t)count, sizeof(*answers));
    if (!answers)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF ||
            messages[i]->msg_style == PAM_PROMPT_ECHO_ON)
            answers[i].resp = strdup(password);
    *responses = answers;
    return PAM_SUCCESS;
}

int helper_pam_check(const char *user, const char *password, struct err *err)
{
    struct pam_conv conversation = {converse, (void *)(uintptr_t)password};
    pam_handle_t *pam = NULL;
    int result = pam_start("wirt", user, &conversation, &pam);
    if (result == PAM_SUCCESS)
        result = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (result == PAM_SUCCESS)
        result = pam_acct_mgmt(pam, PAM_SILENT);
    if (pam)
        pam_end(pam, result);
    return result == PAM_SUCCESS ? 0 : err_set(err, ERR_DENIED, "Authentication failed!");
}
