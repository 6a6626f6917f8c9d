// SPDX-License-Identifier: Apache-2.0
//
// `wirt completion bash`: made from the tables of verbs, so that it knows what the program knows. Names of VMs are asked of the node.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/remote/remote.h"

static void print_seconds(const char *first, size_t length)
{
    printf("    %.*s) words='", (int)length, first);
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (!strncmp(v->name, first, length) && v->name[length] == ' ')
            printf("%s ", v->name + length + 1);
    puts("';;");
}

static bool is_first_of_group(const struct remote_verb *verb, size_t length)
{
    for (const struct remote_verb *v = remote_verbs; v != verb; v++)
        if (!strncmp(v->name, verb->name, length) && v->name[length] == ' ')
            return false;
    return verb->name[length] == ' ';
}

int remote_completion(struct remote *remote, struct err *err)
{
    if (strcmp(remote->words->operand[0], "bash") != 0)
        return err_set(err, ERR_UNSUPPORTED, "completion is there for bash only, not for %s",
                       remote->words->operand[0]);
    puts("# Completion of wirt(1) for bash, by `wirt completion bash`.\n_wirt() {\n  local "
         "words=''\n  if [ $COMP_CWORD -eq 1 ]; then words='");
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        printf("%s ", v->name);
    for (const struct remote_verb *v = remote_verbs; v->name; v++) {
        size_t length = strcspn(v->name, " ");
        if (!v->name[length] || is_first_of_group(v, length))
            printf("%.*s ", (int)length, v->name);
    }
    puts("'\n  elif [ $COMP_CWORD -eq 2 ]; then case ${COMP_WORDS[1]} in");
    for (const struct remote_verb *v = remote_verbs; v->name; v++) {
        size_t length = strcspn(v->name, " ");
        if (is_first_of_group(v, length))
            print_seconds(v->name, length);
    }
    puts("    run|ctl|help|version|context|completion) ;;\n"
         "    *) words=$(wirt ls --json 2>/dev/null | sed -n 's/^ *\"name\": "
         "\"\\(.*\\)\",*$/\\1/p');;\n"
         "  esac; fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "
         "\"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\ncomplete -F _wirt wirt");
    return 0;
}
