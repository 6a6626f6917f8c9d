// SPDX-License-Identifier: Apache-2.0
//
// cloud-init's first configuration of a guest, from the keys ciuser, cipassword, sshkeys, ipconfigN, nameserver, searchdomain and cicustom: the
// documents of its NoCloud source, and the drive that carries them.
//
// The documents are JSON, which YAML contains: whatever a value holds, it stays a value. cicustom replaces whole documents by snippets.
#ifndef WIRT_NODE_GUEST_GUEST_CLOUDINIT_H
#define WIRT_NODE_GUEST_GUEST_CLOUDINIT_H

#include <jansson.h>

#include "node/guest/guest.h"

#define CLOUDINIT_BYTES   (4u * 1024 * 1024) // of the drive
#define CLOUDINIT_SNIPPET 65536              // bytes of one at most

enum cloudinit_document {
    CLOUDINIT_USER,
    CLOUDINIT_NETWORK,
    CLOUDINIT_META,
    CLOUDINIT_VENDOR,
    CLOUDINIT_COUNT
};
// "user", "network", "meta", "vendor"; CLOUDINIT_COUNT when it is none.
enum cloudinit_document cloudinit_document_named(const char *name);

// ---- Pure.
// "ip=10.0.0.2/24,gw=10.0.0.1,ip6=auto": 0, or -1 and *err.
int cloudinit_check_address(const char *ipconfig, struct err *err);
// "user=local:snippets/x,…": 0, or -1 and *err.
int cloudinit_check_custom(const char *cicustom, struct err *err);
// The document that the keys make, to be freed; NULL where there is none (vendor).
char *cloudinit_compose(enum cloudinit_document document, int64_t vmid, const json_t *config);
// A password as it is stored: hashed for crypt(3), unless it is already.
int cloudinit_hash_password(const char *password, char stored[256], struct err *err);

// ---- With the datastores.
// The document as the guest will read it: composed, or the snippet. NULL: there is none, or *err.
char *cloudinit_document(struct guests *guests, int64_t vmid, const json_t *config,
                         enum cloudinit_document document, struct err *err);
// Writes the drive, if the configuration has one. The machine does not run.
int cloudinit_write(struct guests *guests, int64_t vmid, const json_t *config, struct err *err);
bool cloudinit_is_drive(const char *volid);

#endif
