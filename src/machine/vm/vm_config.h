// SPDX-License-Identifier: Apache-2.0
//
// The configuration of a machine: the JSON of wire/protocol.json as a struct, defaults filled in, descriptors in place of paths.
#ifndef WIRT_MACHINE_VM_VM_CONFIG_H
#define WIRT_MACHINE_VM_VM_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define VM_MAX_INITRDS 16
#define VM_MAX_DISKS   64
#define VM_MAX_BACKING 64 // images that a disk stands on
#define VM_MAX_NETS    16
#define VM_MAX_PORTS   8
#define VM_MAX_CPUS    8

enum vm_accel {
    VM_ACCEL_AUTO,
    VM_ACCEL_KVM,
    VM_ACCEL_ENGINE,
    VM_ACCEL_INTERPRETER,
    VM_ACCEL_COUNT
};
enum vm_console_kind {
    VM_CONSOLE_STDIO,
    VM_CONSOLE_FILE,
    VM_CONSOLE_SOCKET,
    VM_CONSOLE_NONE,
    VM_CONSOLE_ATTACHED,
    VM_CONSOLE_KIND_COUNT
};
enum vm_net_kind { VM_NET_USER, VM_NET_TAP, VM_NET_NONE, VM_NET_KIND_COUNT };

enum vm_trace {
    VM_TRACE_EXITS = 1 << 0,
    VM_TRACE_INTERRUPTS = 1 << 1,
    VM_TRACE_FAULTS = 1 << 2,
    VM_TRACE_MODES = 1 << 3,
    VM_TRACE_TRANSLATE = 1 << 4,
    VM_TRACE_HASH = 1 << 5,
    VM_TRACE_STATES = 1 << 6,
};

// Strings are borrowed from the JSON, which the configuration keeps.
struct vm_file {
    int fd; // -1: none
    const char *name;
    const char *arguments; // of a multiboot module
    const char *format;    // of a backing image
};

struct vm_disk_config {
    const char *id; // NULL: default_id
    const char *name;
    const char *format;
    const char *serial;
    struct vm_file *backing;
    struct vm_file log; // where writes and flushes are recorded
    unsigned backing_count;
    int fd;
    int status_fd; // of a remote disk; -1: none
    unsigned queues;
    bool readonly;
    bool stop_on_error;
    struct vm_disk_limits {
        uint64_t bandwidth, iops, bandwidth_burst, iops_burst; // 0: none given
    } limits;
    char default_id[12];
};

struct vm_net_config {
    const char *id; // NULL: default_id
    enum vm_net_kind kind;
    uint8_t mac[6];
    bool link_down;
    int fd;
    char default_id[12];
};

struct vm_port_config {
    const char *name;
    int fd; // listening
};

struct vm_config {
    json_t *json; // owned
    const char *name;
    unsigned cpus;
    uint64_t memory_bytes;
    enum vm_accel accel;
    int kvm_fd;            // /dev/kvm, with VM_ACCEL_KVM; else -1
    const char *cpu;       // model and features as the user wrote them
    struct vm_file kernel; // fd -1: firmware boots
    struct vm_file firmware;
    struct vm_file initrds[VM_MAX_INITRDS];
    unsigned initrd_count;
    const char *append;
    struct vm_disk_config disks[VM_MAX_DISKS];
    unsigned disk_count;
    struct vm_net_config nets[VM_MAX_NETS];
    unsigned net_count;
    struct vm_port_config ports[VM_MAX_PORTS];
    unsigned port_count;
    enum vm_console_kind console;
    int console_fd;
    int control_fd, gdb_fd;   // listening, or -1
    unsigned timeout_seconds; // 0: none
    bool exit_on_reboot;
    bool deterministic;
    unsigned trace;                   // enum vm_trace
    uint64_t trace_first, trace_last; // VM_TRACE_STATES: counts of instructions
    unsigned cold_runs;               // of code, before it is translated
    uint32_t code_cache_bytes;        // 0: the engine's default
    uint64_t launched_ns;             // host monotonic; 0: not told
    uint64_t launched_tsc;            // the host's time-stamp counter then
    bool stats, stats_json;
};

// Checks `json` against the schema and what the schema cannot say (each file has its descriptor). Takes a reference of its own. -1 and *err.
int vm_config_parse(struct vm_config *config, json_t *json, struct err *err);
void vm_config_fini(struct vm_config *config);

// One disk or net of a `plug` command; `index` makes the default id.
void vm_config_parse_limits(struct vm_disk_limits *limits, const json_t *json);
int vm_config_parse_disk(struct vm_disk_config *disk, const json_t *json, unsigned index,
                         unsigned cpus, struct err *err);
int vm_config_parse_net(struct vm_net_config *net, const json_t *json, const char *vm_name,
                        unsigned index, struct err *err);

#endif
