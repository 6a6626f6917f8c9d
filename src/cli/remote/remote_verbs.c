// SPDX-License-Identifier: Apache-2.0
//
// The table of verbs that talk to a node. Help, checking of words and shell completion come from it.
#include "cli/remote/remote.h"

#define ANY CLI_OPERANDS_MAX
#define YES                                                                                        \
    {                                                                                              \
        "yes", NULL, "do not ask"                                                                  \
    }
#define NODE                                                                                       \
    {                                                                                              \
        "node", "NODE", "on this node of several"                                                  \
    }
#define STORE                                                                                      \
    {                                                                                              \
        "storage", "NAME", "the datastore (local)"                                                 \
    }
#define COMMENT                                                                                    \
    {                                                                                              \
        "comment", "TEXT", "notes"                                                                 \
    }
#define KEYS_GONE                                                                                  \
    {                                                                                              \
        "delete", "KEY,…", "take these keys out"                                                   \
    }
#define WAIT                                                                                       \
    {                                                                                              \
        "wait", "SECONDS", "for the agent of a guest that is starting (300)"                       \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }

static const struct cli_option stop_options[] = {
    {"force", NULL, "pull the plug: what the guest has not written is lost"},
    {"timeout", "SECONDS", "how long the guest may take to shut down (60)"},
    END};
static const struct cli_option rm_options[] = {
    {"force", NULL, "stop it first when it runs"}, YES, END};
static const struct cli_option launch_options[] = {
    {"cores", "N", "virtual CPUs (as the template has)"},
    {"memory", "SIZE", "RAM, as 2G (as the template has)"},
    {"disk", "SIZE", "grow the first disk to this size"},
    {"user", "NAME", "user that cloud-init makes"},
    {"ssh-key", "FILE", "public key that may log in as that user"},
    {"ip", "CONFIG", "ip=dhcp or ip=10.0.0.5/24,gw=10.0.0.1"},
    {"id", "NUMBER", "the VM's number (the next free one)"},
    {"full", NULL, "copy the disks instead of sharing them with the template"},
    {"no-start", NULL, "make it, do not start it"},
    NODE,
    END};
static const struct cli_option clone_options[] = {
    {"id", "NUMBER", "its number (the next free one)"},
    {"full", NULL, "copy the disks in full"},
    {"snapshot", "NAME", "from this snapshot"},
    END};
static const struct cli_option set_options[] = {
    KEYS_GONE, {"revert", "KEY,…", "take changes back that wait for the next start"}, END};
static const struct cli_option edit_options[] = {
    {"file", "FILE", "take this text instead of opening an editor"}, END};
static const struct cli_option snapshot_options[] = {{"notes", "TEXT", "kept with it"}, END};
static const struct cli_option yes_options[] = {YES, END};
static const struct cli_option backup_options[] = {
    {"storage", "NAME", "datastore that keeps it (local)"}, END};
static const struct cli_option restore_options[] = {
    {"id", "NUMBER", "as a new VM with this number"},
    {"force", NULL, "over the VM that has it"},
    YES,
    NODE,
    END};
static const struct cli_option exec_options[] = {
    {"input", NULL, "give standard input to the command"},
    {"timeout", "SECONDS", "give up waiting for its end (300)"},
    WAIT,
    END};
static const struct cli_option shell_options[] = {{"user", "NAME", "log in as (root)"}, WAIT, END};
static const struct cli_option cp_options[] = {WAIT, END};
static const struct cli_option attach_options[] = {
    {"storage", "NAME", "datastore (local)"},
    {"format", "F", "raw or qcow2"},
    {"volume", "VOLUME", "one that exists, instead of a new one"},
    END};
static const struct cli_option detach_options[] = {
    {"destroy", NULL, "delete the volume, too"}, YES, END};
static const struct cli_option api_options[] = {
    {"complete", NULL, "print what the last word may be, for the shell"}, END};
static const struct cli_option comment_options[] = {COMMENT, END};
static const struct cli_option content_options[] = {
    STORE, {"content", "KIND", "only iso, import, snippets, backup or images"}, NODE, END};
static const struct cli_option upload_options[] = {
    STORE,
    {"content", "KIND", "what it is: iso, import or snippets (told by its suffix)"},
    {"name", "NAME", "its name there (as here)"},
    NODE,
    END};
static const struct cli_option store_rm_options[] = {YES, NODE, END};
static const struct cli_option store_options[] = {
    {"content", "KIND,…", "what it keeps: images, iso, import, snippets, backup, … (all)"},
    {"prune-backups", "RULE", "which backups stay, as keep-last=3"},
    COMMENT,
    END};
static const struct cli_option store_set_options[] = {KEYS_GONE, END};
static const struct cli_option node_options[] = {NODE, END};
static const struct cli_option card_options[] = {
    {"bridge", "NAME", "the network (vmbr0)"},
    {"model", "MODEL", "kept with it (virtio)"},
    {"mac", "ADDRESS", "its hardware address (a new one)"},
    {"unplugged", NULL, "with its cable out"},
    END};
static const struct cli_option role_options[] = {{"append", NULL, "beside those that it has"}, END};
static const struct cli_option pool_options[] = {{"storage", "NAME,…", "these datastores, too"},
                                                 {"move", NULL, "also out of another pool"},
                                                 END};
static const struct cli_option pool_leave_options[] = {
    {"storage", "NAME,…", "these datastores, too"}, END};
static const struct cli_option user_options[] = {
    {"password-stdin", NULL, "the password comes on standard input"},
    {"email", "ADDRESS", "e-mail"},
    COMMENT,
    {"groups", "NAME,…", "member of"},
    END};
static const struct cli_option password_options[] = {
    {"password-stdin", NULL, "the password comes on standard input"}, END};
static const struct cli_option token_options[] = {
    {"all-rights", NULL, "the token may all that its user may; otherwise only what it is given"},
    {"expire", "SECONDS", "until then (since 1970)"},
    COMMENT,
    END};
static const struct cli_option acl_options[] = {
    {"user", "NAME@REALM", "to this user"},
    {"group", "NAME", "to this group"},
    {"token", "USER!NAME", "to this token"},
    {"no-propagate", NULL, "not to what is below the path"},
    END};
static const struct cli_option task_options[] = {
    {"limit", "N", "at most so many (50)"}, {"vm", "VM", "of this VM"}, NODE, END};
static const struct cli_option log_options[] = {{"follow", NULL, "go on until the task ends"}, END};
static const struct cli_option image_options[] = {
    {"name", "NAME", "the template's name (as the release)"},
    {"output", "FILE", "write the image (qcow2) there, make no template"},
    {"storage", "NAME", "datastore (local)"},
    NODE,
    END};
static const struct cli_option import_options[] = {STORE, NODE, END};
static const struct cli_option context_options[] = {
    {"token", "TOKEN", "user@realm!name=secret"},
    {"fingerprint", "AB:CD:…", "what the node's certificate must have"},
    YES,
    END};

const struct remote_verb remote_verbs[] = {
    {"launch", "TEMPLATE NAME", 2, 2, launch_options, remote_launch,
     "make a VM from a template and start it", "wirt launch debian-12 web1 --memory 2G", false},
    {"ls", "[FILTER…]", 0, ANY, NULL, remote_ls, "list the VMs", "wirt ls status=running web",
     false},
    {"show", "VM", 1, 1, NULL, remote_show, "everything about a VM", "wirt show web1", false},
    {"start", "VM…", 1, ANY, NULL, remote_start, "start VMs", "wirt start web1 web2", false},
    {"stop", "VM…", 1, ANY, stop_options, remote_stop, "shut VMs down",
     "wirt stop web1 --timeout 30", false},
    {"restart", "VM…", 1, ANY, NULL, remote_restart, "shut VMs down and start them again",
     "wirt restart web1", false},
    {"pause", "VM…", 1, ANY, NULL, remote_pause, "hold VMs where they are", "wirt pause web1",
     false},
    {"resume", "VM…", 1, ANY, NULL, remote_resume, "let paused VMs go on", "wirt resume web1",
     false},
    {"console", "VM", 1, 1, NULL, remote_console, "a VM's serial console on this terminal",
     "wirt console web1", false},
    {"exec", "VM -- COMMAND…", 1, 1, exec_options, remote_exec,
     "run a command in a VM (by its guest agent)", "wirt exec web1 -- uname -a", false},
    {"shell", "VM", 1, 1, shell_options, remote_shell, "log in to a VM by ssh",
     "wirt shell web1 --user admin", false},
    {"cp", "FROM TO", 2, 2, cp_options, remote_cp, "copy a file into or out of a VM",
     "wirt cp hosts web1:/etc/hosts", false},
    {"clone", "VM NAME", 2, 2, clone_options, remote_clone, "make a VM from another",
     "wirt clone web1 web2", false},
    {"template", "VM", 1, 1, yes_options, remote_template, "make a VM a template",
     "wirt template web1 --yes", false},
    {"set", "VM KEY=VALUE…", 1, ANY, set_options, remote_set, "change a VM's configuration",
     "wirt set web1 memory=2048 tags=prod", false},
    {"edit", "VM", 1, 1, edit_options, remote_edit, "change a VM's configuration in your editor",
     "wirt edit web1", false},
    {"snapshot list", "VM", 1, 1, NULL, remote_snapshot_list, "the snapshots of a VM",
     "wirt snapshot list web1", false},
    {"snapshot create", "VM NAME", 2, 2, snapshot_options, remote_snapshot_create,
     "keep the disks as they are now", "wirt snapshot create web1 before-upgrade", false},
    {"snapshot rm", "VM NAME", 2, 2, yes_options, remote_snapshot_rm, "remove a snapshot",
     "wirt snapshot rm web1 before-upgrade", false},
    {"restore", "VM SNAPSHOT", 2, 2, yes_options, remote_restore, "go back to a snapshot",
     "wirt restore web1 before-upgrade", false},
    {"backup create", "VM", 1, 1, backup_options, remote_backup_create, "write a VM to one file",
     "wirt backup create web1", false},
    {"backup list", "[VM]", 0, 1, backup_options, remote_backup_list, "the backups",
     "wirt backup list web1", false},
    {"backup restore", "VOLUME", 1, 1, restore_options, remote_backup_restore,
     "make a VM from a backup", "wirt backup restore local:backup/FILE --id 120", false},
    {"disk attach", "VM SIZE", 1, 2, attach_options, remote_disk_attach,
     "give a VM a new disk, or one that exists", "wirt disk attach web1 20G", false},
    {"disk detach", "VM DISK", 2, 2, detach_options, remote_disk_detach, "take a disk out of a VM",
     "wirt disk detach web1 virtio1", false},
    {"disk grow", "VM DISK SIZE", 3, 3, NULL, remote_disk_grow, "make a VM's disk larger",
     "wirt disk grow web1 virtio0 +10G", false},
    {"images list", "", 0, 0, NULL, remote_images_list, "the templates", "wirt images list", false},
    {"images build", "RELEASE", 1, 1, image_options, remote_images_build,
     "make a template of a distribution: debian-12", "wirt images build debian-12", false},
    {"images import", "FILE NAME", 2, 2, import_options, remote_images_import,
     "make a template of a disk image", "wirt images import web.vmdk web", false},
    {"net list", "", 0, 0, node_options, remote_net_list, "a node's networks", "wirt net list",
     false},
    {"net cards", "[VM]", 0, 1, node_options, remote_net_cards,
     "the VMs' network cards with their addresses", "wirt net cards web1", false},
    {"net attach", "VM", 1, 1, card_options, remote_net_attach, "give a VM a network card",
     "wirt net attach web1 --bridge vmbr0", false},
    {"net detach", "VM CARD", 2, 2, NULL, remote_net_detach, "take a network card out of a VM",
     "wirt net detach web1 net1", false},
    {"storage list", "", 0, 0, NULL, remote_storage_list, "the datastores", "wirt storage list",
     false},
    {"storage show", "NAME", 1, 1, NULL, remote_storage_show, "how a datastore is set up",
     "wirt storage show local", false},
    {"storage add", "NAME FOLDER", 2, 2, store_options, remote_storage_add,
     "make a datastore of a folder of the node",
     "wirt storage add big /srv/big --content images,backup", false},
    {"storage set", "NAME KEY=VALUE…", 1, ANY, store_set_options, remote_storage_set,
     "change a datastore", "wirt storage set big content=backup prune-backups=keep-last=3", false},
    {"storage content", "", 0, 0, content_options, remote_storage_content,
     "what lies in a datastore", "wirt storage content --content iso", false},
    {"storage upload", "FILE", 1, 1, upload_options, remote_storage_upload,
     "send a file to a datastore", "wirt storage upload install.iso --content iso", false},
    {"storage rm", "VOLUME|NAME", 1, 1, store_rm_options, remote_storage_rm,
     "delete a volume, or forget a datastore", "wirt storage rm local:iso/install.iso", false},
    {"user list", "", 0, 0, NULL, remote_user_list, "the users", "wirt user list", false},
    {"user add", "NAME@REALM", 1, 1, user_options, remote_user_add, "add a user",
     "wirt user add anna@wirt", false},
    {"user set", "NAME@REALM KEY=VALUE…", 2, ANY, NULL, remote_user_set, "change a user",
     "wirt user set anna@wirt enable=0 email=anna@example.org", false},
    {"user rights", "NAME@REALM", 1, 1, NULL, remote_user_rights, "what a user may, and where",
     "wirt user rights anna@wirt", false},
    {"user rm", "NAME@REALM", 1, 1, yes_options, remote_user_rm, "remove a user",
     "wirt user rm anna@wirt", false},
    {"user password", "NAME@REALM", 1, 1, password_options, remote_user_password, "set a password",
     "wirt user password anna@wirt", false},
    {"factor list", "NAME@REALM", 1, 1, NULL, remote_factor_list, "a user's second factors",
     "wirt factor list anna@wirt", false},
    {"factor rm", "NAME@REALM ID", 2, 2, yes_options, remote_factor_rm,
     "remove a second factor, as of a lost telephone", "wirt factor rm anna@wirt ID", false},
    {"group list", "", 0, 0, NULL, remote_group_list, "the groups of users", "wirt group list",
     false},
    {"group add", "NAME", 1, 1, comment_options, remote_group_add, "make a group",
     "wirt group add operators", false},
    {"group join", "NAME USER…", 2, ANY, NULL, remote_group_join, "put users into a group",
     "wirt group join operators anna@wirt", false},
    {"group leave", "NAME USER…", 2, ANY, NULL, remote_group_leave, "take users out of a group",
     "wirt group leave operators anna@wirt", false},
    {"group rm", "NAME", 1, 1, yes_options, remote_group_rm, "remove a group",
     "wirt group rm operators", false},
    {"token list", "NAME@REALM", 1, 1, NULL, remote_token_list, "a user's API tokens",
     "wirt token list anna@wirt", false},
    {"token add", "NAME@REALM TOKEN", 2, 2, token_options, remote_token_add,
     "make an API token; prints its secret once", "wirt token add anna@wirt ci", false},
    {"token rm", "NAME@REALM TOKEN", 2, 2, yes_options, remote_token_rm, "remove a token",
     "wirt token rm anna@wirt ci", false},
    {"role list", "", 0, 0, NULL, remote_role_list, "the roles: privileges under a name",
     "wirt role list", false},
    {"role add", "NAME PRIVILEGE…", 2, ANY, NULL, remote_role_add, "make a role",
     "wirt role add Starter VM.Audit VM.PowerMgmt", false},
    {"role set", "NAME PRIVILEGE…", 2, ANY, role_options, remote_role_set,
     "give a role these privileges", "wirt role set Starter VM.Console --append", false},
    {"role rm", "NAME", 1, 1, yes_options, remote_role_rm, "remove a role", "wirt role rm Starter",
     false},
    {"acl list", "", 0, 0, NULL, remote_acl_list, "who may what where", "wirt acl list", false},
    {"acl add", "PATH ROLE", 2, 2, acl_options, remote_acl_add, "give a role at a path",
     "wirt acl add /vms/100 PVEVMUser --user anna@wirt", false},
    {"acl rm", "PATH ROLE", 2, 2, acl_options, remote_acl_rm, "take a role away",
     "wirt acl rm /vms/100 PVEVMUser --user anna@wirt", false},
    {"pool list", "", 0, 0, NULL, remote_pool_list, "the pools of VMs and datastores",
     "wirt pool list", false},
    {"pool show", "NAME", 1, 1, NULL, remote_pool_show, "what is in a pool", "wirt pool show web",
     false},
    {"pool add", "NAME", 1, 1, comment_options, remote_pool_add, "make a pool", "wirt pool add web",
     false},
    {"pool join", "NAME [VM…]", 1, ANY, pool_options, remote_pool_join, "put VMs into a pool",
     "wirt pool join web web1 web2", false},
    {"pool leave", "NAME [VM…]", 1, ANY, pool_leave_options, remote_pool_leave,
     "take VMs out of a pool", "wirt pool leave web web1", false},
    {"pool rm", "NAME", 1, 1, NULL, remote_pool_rm, "remove an empty pool", "wirt pool rm web",
     false},
    {"task list", "", 0, 0, task_options, remote_task_list, "what runs and ran",
     "wirt task list --vm web1", false},
    {"task log", "UPID|VM", 1, 1, log_options, remote_task_log,
     "a task's log, or a VM's last one's", "wirt task log web1 --follow", false},
    {"task stop", "UPID|VM", 1, 1, NULL, remote_task_stop, "stop a task, or the one a VM is in",
     "wirt task stop web1", false},
    {"events", "", 0, 0, NULL, remote_events, "tasks as they begin and end", "wirt events", false},
    {"top", "", 0, 0, NULL, remote_top, "the busiest VMs, again and again", "wirt top", false},
    {"rm", "VM…", 1, ANY, rm_options, remote_rm, "delete VMs with their disks",
     "wirt rm web1 --force", false},
    {"context list", "", 0, 0, NULL, remote_context_list, "the nodes known here",
     "wirt context list", true},
    {"context add", "NAME HOST", 2, 2, context_options, remote_context_add,
     "remember a node and use it", "wirt context add home 192.0.2.7 --token 'anna@wirt!cli=…'",
     true},
    {"context use", "NAME", 1, 1, NULL, remote_context_use, "talk to this node from now on",
     "wirt context use home", true},
    {"context rm", "NAME", 1, 1, NULL, remote_context_rm, "forget a node", "wirt context rm home",
     true},
    {"api", "METHOD PATH NAME=VALUE…", 1, ANY, api_options, remote_api,
     "any request of the node's interface", "wirt api get /cluster/resources type=vm", false},
    {"completion", "bash", 1, 1, NULL, remote_completion, "print shell completion",
     "wirt completion bash >~/.local/share/bash-completion/completions/wirt", true},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, false},
};
