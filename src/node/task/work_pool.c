// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdlib.h>

#include "node/task/task.h"

#define THREADS_MAX 32
#define STACK_BYTES (512 * 1024)

struct piece {
    void (*run)(void *argument);
    void *argument;
    struct piece *next;
};

struct work_pool {
    pthread_t threads[THREADS_MAX];
    unsigned count;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct piece *first, **last; // under the lock
    bool ending;
};

static void *pool_main(void *context)
{
    struct work_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct piece *piece = pool->first;
        if (!piece && pool->ending)
            break;
        if (!piece) {
            pthread_cond_wait(&pool->more, &pool->lock);
            continue;
        }
        pool->first = piece->next;
        if (!pool->first)
            pool->last = &pool->first;
        pthread_mutex_unlock(&pool->lock);
        piece->run(piece->argument);
        free(piece);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct work_pool *work_pool_create(unsigned threads, struct err *err)
{
    struct work_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        abort();
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (; pool->count < threads && pool->count < THREADS_MAX; pool->count++)
        if (pthread_create(&pool->threads[pool->count], &attributes, pool_main, pool))
            break;
    pthread_attr_destroy(&attributes);
    if (pool->count)
        return pool;
    work_pool_destroy(pool);
    err_set(err, ERR_LIMIT, "no thread for requests can be started");
    return NULL;
}

void work_pool_destroy(struct work_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void work_submit(struct work_pool *pool, void (*run)(void *argument), void *argument)
{
    struct piece *piece = malloc(sizeof(*piece));
    if (!piece)
        abort();
    *piece = (struct piece){run, argument, NULL};
    pthread_mutex_lock(&pool->lock);
    *pool->last = piece;
    pool->last = &piece->next;
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}
