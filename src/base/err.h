// SPDX-License-Identifier: Apache-2.0
//
// Errors of the control path: what went wrong, told so that a person can act on it.
//
// A function that can fail for a reason outside the program (a file, a request, the host) takes a
// `struct err *err` as its last argument, returns 0 or -1 (or a pointer or NULL), and fills `err` where
// the failure happens. Callers add context with err_wrap() on the way up, so the text that a person
// reads is one sentence from the outermost object to the innermost reason:
//
//     disk "root.img": cannot open: Permission denied
//
// Hot paths return 0 or a negative errno and use none of this. A fault of the program itself is an
// assert(). A misbehaving guest is a rate-limited log line (base/log.h), never an error and never an abort.
#ifndef WIRT_BASE_ERR_H
#define WIRT_BASE_ERR_H

#include <stdarg.h>

enum err_code {
    ERR_NONE = 0,
    ERR_USAGE,       // the caller's words are wrong: a flag, a parameter, a configuration value
    ERR_INPUT,       // a file or a message is malformed, truncated or hostile
    ERR_NOT_FOUND,   // the thing named does not exist
    ERR_EXISTS,      // it exists already
    ERR_BUSY,        // somebody else holds it, or its state does not allow this now
    ERR_DENIED,      // permission
    ERR_LIMIT,       // a limit or a resource (memory, space, descriptors) is exhausted
    ERR_IO,          // reading or writing failed
    ERR_UNSUPPORTED, // understood, but not offered here
    ERR_CANCELLED,   // stopped on request
    ERR_HOST,        // the host lacks or refused something that we need
    ERR_CODE_COUNT
};

#define ERR_TEXT_BYTES 512

struct err {
    enum err_code code;
    int os_errno;              // the errno behind it, or 0
    char text[ERR_TEXT_BYTES]; // one sentence without a final full stop, always terminated
};

// The code's stable lower-case name ("not-found"), as it stands in protocols and --json output.
const char *err_code_name(enum err_code code);

// The process exit status for the code: 2 for usage and bad input, an even number of its own for others.
int err_exit_status(enum err_code code);

// The same for what a person gave (words, files): 2, whatever is wrong with it, unless the host failed or ran out of something.
int err_input_status(enum err_code code);

// Fill *err (which may be NULL: the caller is not interested) and return -1.
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// The same for a failed system call: the code follows from `os_errno`, and ": strerror" is appended.
int err_set_errno(struct err *err, int os_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Put "context: " before the text of an error that is already set; returns -1.
int err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
