// SPDX-License-Identifier: Apache-2.0
//
// A bit mask says which buffers are lent out.
#include "machine/block/buffers.h"

#include "os/file.h"

void block_buffers_init(struct block_buffers *buffers, unsigned count, size_t bytes)
{
    *buffers = (struct block_buffers){.bytes = bytes, .count = count};
    pthread_mutex_init(&buffers->lock, NULL);
    pthread_cond_init(&buffers->freed, NULL);
}

void block_buffers_fini(struct block_buffers *buffers)
{
    for (unsigned i = 0; i < buffers->count; i++)
        os_aligned_free(buffers->memory[i]);
    pthread_cond_destroy(&buffers->freed);
    pthread_mutex_destroy(&buffers->lock);
}

void *block_buffers_get(struct block_buffers *buffers)
{
    pthread_mutex_lock(&buffers->lock);
    while (buffers->used == (1u << buffers->count) - 1)
        pthread_cond_wait(&buffers->freed, &buffers->lock);
    int index = __builtin_ctz(~buffers->used);
    if (!buffers->memory[index])
        buffers->memory[index] = os_aligned_alloc(buffers->bytes);
    void *memory = buffers->memory[index];
    if (memory)
        buffers->used |= 1u << index;
    pthread_mutex_unlock(&buffers->lock);
    return memory;
}

void block_buffers_put(struct block_buffers *buffers, void *memory)
{
    if (!memory)
        return;
    pthread_mutex_lock(&buffers->lock);
    for (unsigned i = 0; i < buffers->count; i++) {
        if (buffers->memory[i] == memory)
            buffers->used &= ~(1u << i);
    }
    pthread_mutex_unlock(&buffers->lock);
    pthread_cond_signal(&buffers->freed);
}
