// SPDX-License-Identifier: Apache-2.0
//
// The texts of `wirt` alone and of `wirt help VERB`.
#ifndef WIRT_CLI_HELP_H
#define WIRT_CLI_HELP_H

extern const char help_welcome[];
extern const char help_run[];
extern const char help_ctl[];
extern const char help_doctor[];
extern const char help_disk[];
extern const char help_init[];
extern const char help_help[];
extern const char help_version[];

#endif
