// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_status;
} codes[] = {
    [ERR_NONE] = {"none", 0},
    [ERR_USAGE] = {"usage", 2},
    [ERR_INPUT] = {"input", 2},
    [ERR_NOT_FOUND] = {"not-found", 4},
    [ERR_EXISTS] = {"exists", 6},
    [ERR_BUSY] = {"busy", 8},
    [ERR_DENIED] = {"denied", 10},
    [ERR_LIMIT] = {"limit", 12},
    [ERR_IO] = {"io", 14},
    [ERR_UNSUPPORTED] = {"unsupported", 16},
    [ERR_CANCELLED] = {"cancelled", 18},
    [ERR_HOST] = {"host", 20},
};
static_assert(sizeof(codes) / sizeof(codes[0]) == ERR_CODE_COUNT, "a name for each code");

const char *err_code_name(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return codes[code].name;
}

int err_exit_status(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return codes[code].exit_status;
}

int err_input_status(enum err_code code)
{
    return err_exit_status(code == ERR_HOST || code == ERR_LIMIT ? code : ERR_USAGE);
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (!err)
        return -1;
    err->code = code;
    err->os_errno = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return -1;
}

static enum err_code code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
    case EADDRINUSE:
        return ERR_BUSY;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return ERR_LIMIT;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case ECANCELED:
        return ERR_CANCELLED;
    default:
        return ERR_IO;
    }
}

int err_set_errno(struct err *err, int os_errno, const char *format, ...)
{
    if (!err)
        return -1;
    err->code = code_of_errno(os_errno);
    err->os_errno = os_errno;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", strerror(os_errno));
    return -1;
}

int err_wrap(struct err *err, const char *format, ...)
{
    if (!err)
        return -1;
    char inner[ERR_TEXT_BYTES];
    memcpy(inner, err->text, sizeof(inner));
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", inner);
    return -1;
}
