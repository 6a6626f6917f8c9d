// SPDX-License-Identifier: Apache-2.0
//
// `wirt completion bash`: made from the tables of verbs, so that it knows what the program knows. Names of VMs are asked of the node.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/disk.h"
#include "cli/remote/remote.h"

static size_t first_word(const struct remote_verb *verb)
{
    return strcspn(verb->name, " ");
}

// Of a group's verbs only the first speaks for the group.
static bool is_new(const struct remote_verb *verb)
{
    size_t length = first_word(verb);
    for (const struct remote_verb *v = remote_verbs; v != verb; v++)
        if (first_word(v) == length && !memcmp(v->name, verb->name, length))
            return false;
    return true;
}

static bool is_remote(const char *word)
{
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (strlen(word) == first_word(v) && !memcmp(word, v->name, strlen(word)))
            return true;
    return false;
}

static void print_firsts(void)
{
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        if (!is_remote(v->name))
            printf("%s ", v->name);
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (is_new(v))
            printf("%.*s ", (int)first_word(v), v->name);
}

static void print_seconds(const struct remote_verb *group)
{
    size_t length = first_word(group);
    printf("    %.*s) words='", (int)length, group->name);
    for (const struct remote_verb *v = group; v->name; v++)
        if (!strncmp(v->name, group->name, length) && v->name[length] == ' ')
            printf("%s ", v->name + length + 1);
    if (length == 4 && !memcmp(group->name, "disk", length))
        disk_print_names(); // commands of another table under the same word
    puts("';;");
}

static void print_options(const struct cli_option *options)
{
    for (; options && options->name; options++)
        printf("--%s ", options->name);
}

// What stands behind a verb: its options, and whether VMs are named.
static void print_verb(const struct remote_verb *verb)
{
    printf("    '%s') options='", verb->name);
    print_options(verb->options);
    if (!verb->local)
        print_options(remote_common_options);
    printf("'; vms=%s;;\n", strstr(verb->operands, "VM") || !strcmp(verb->name, "ls") ? "yes" : "");
}

int remote_completion(struct remote *remote, struct err *err)
{
    if (strcmp(remote->words->operand[0], "bash") != 0)
        return err_set(err, ERR_UNSUPPORTED, "completion is there for bash only, not for %s",
                       remote->words->operand[0]);
    puts("# Completion of wirt(1) for bash, by `wirt completion bash`.\n"
         "_wirt() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} first=${COMP_WORDS[1]} words='' options='' "
         "vms=''");
    fputs("  if [ $COMP_CWORD -eq 1 ]; then words='", stdout);
    print_firsts();
    puts("'; fi\n  if [ $COMP_CWORD -eq 2 ]; then case $first in");
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (v->name[first_word(v)] && is_new(v))
            print_seconds(v);
    fputs("    help) words='", stdout);
    print_firsts();
    puts("';;\n  esac; fi\n  local verb=$first\n  case $first in");
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        if (v->name[first_word(v)] && is_new(v))
            printf("    %.*s) verb=\"$first ${COMP_WORDS[2]}\";;\n", (int)first_word(v), v->name);
    puts("  esac\n  [ $COMP_CWORD -eq 1 ] || case $verb in");
    for (const struct remote_verb *v = remote_verbs; v->name; v++)
        print_verb(v);
    // What the node's interface offers, of which it has a table of its own.
    puts("  esac\n"
         "  local ask=()\n"
         "  if [[ $current != -* ]]; then\n"
         "    [ \"$first\" != api ] || [ $COMP_CWORD -lt 2 ] || "
         "ask=(\"${COMP_WORDS[@]:2:COMP_CWORD-1}\")\n"
         "    [ \"$first\" != set ] || [ $COMP_CWORD -lt 3 ] || ask=(put /nodes/x/qemu/100/config "
         "'')\n"
         "  fi\n"
         "  if [ ${#ask[@]} -gt 0 ]; then\n"
         "    words=$(wirt api --complete \"${ask[@]}\" 2>/dev/null)\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "    [[ ${COMPREPLY[0]-} != *[/=] ]] || compopt -o nospace 2>/dev/null\n"
         "    return 0\n"
         "  fi\n"
         "  case $current in\n"
         "    -*) words=$options;;\n"
         "    *) [ -z \"$vms\" ] || words=$(wirt ls --json 2>/dev/null | sed -n 's/^ *\"name\": "
         "\"\\(.*\\)\",*$/\\1/p');;\n"
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$current\"))\n"
         "}\ncomplete -F _wirt wirt");
    return 0;
}
