// SPDX-License-Identifier: Apache-2.0
//
// How formats make new images; block_image_create() calls them. Each takes the file node over.
#ifndef WIRT_MACHINE_BLOCK_IMAGE_FORMATS_H
#define WIRT_MACHINE_BLOCK_IMAGE_FORMATS_H

struct block_node;
struct block_create;
struct err;

int raw_check_new(const struct block_create *create, struct err *err);
int vmdk_check_new(const struct block_create *create, struct err *err);
int qcow2_check_new(const struct block_create *create, struct err *err);
int raw_create(struct block_node *file, const struct block_create *create, struct err *err);
int vmdk_create(struct block_node *file, const struct block_create *create, struct err *err);
int qcow2_create(struct block_node *file, const struct block_create *create, struct err *err);

#endif
