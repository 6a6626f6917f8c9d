// SPDX-License-Identifier: Apache-2.0
//
// In place of layout.c in sanitizer builds: their shadow memory has places of its own.
#include "os/layout.h"

bool os_layout_enter(char **argv)
{
    (void)argv;
    return false;
}
