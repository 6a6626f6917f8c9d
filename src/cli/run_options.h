// SPDX-License-Identifier: Apache-2.0
//
// The words of `wirt run` become the JSON configuration of a VM (wire/protocol.json, "config"): the same that wirtd makes
// from its store. Nothing is opened here.
#ifndef WIRT_CLI_RUN_OPTIONS_H
#define WIRT_CLI_RUN_OPTIONS_H

#include <jansson.h>

#include "base/err.h"

// A new reference, checked against the schema, or NULL and *err, which names the flag, the value and what would be right.
json_t *run_options_parse(int argc, char **argv, struct err *err);

#endif
