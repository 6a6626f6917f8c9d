// SPDX-License-Identifier: Apache-2.0
#include "node/rest/rest.h"

const struct endpoint *const rest_tables[] = {
    rest_access,    rest_access_users, rest_cluster, rest_nodes,         rest_tasks, rest_qemu,
    rest_qemu_life, rest_agent,        rest_storage, rest_storage_files, rest_pools, rest_console,
    rest_backup,    rest_bulk,         rest_metrics, rest_machine,       NULL,
};
