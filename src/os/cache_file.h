// SPDX-License-Identifier: Apache-2.0
//
// Small files that save a later start some work, in a folder of the user's own: /run/wirt for root, else $XDG_RUNTIME_DIR/wirt or $XDG_CACHE_HOME/wirt or
// ~/.cache/wirt. Folder and file must belong to the user and be writable by nobody else, and the file must be no link; else they are not used.
#ifndef WIRT_OS_CACHE_FILE_H
#define WIRT_OS_CACHE_FILE_H

#include <stddef.h>

// The whole file as a text. -1: there is none that can be believed, or it does not fit.
int os_cache_read(const char *name, char *text, size_t bytes);
// In one step, so that nobody reads half of it. A failure costs the saving only and is not told.
void os_cache_write(const char *name, const char *text);

#endif
