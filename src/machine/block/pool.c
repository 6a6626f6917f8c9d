// SPDX-License-Identifier: Apache-2.0
//
// A fixed number of threads and one list of requests. The list is threaded through the requests, so
// nothing is allocated. A thread is woken only when one is idle; a busy one finds the next request
// by itself.
#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "machine/block/pool.h"

#define POOL_THREADS_MAX 64

struct block_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct block_request *first, *last; // under lock
    unsigned idle;                      // under lock: threads that wait
    bool stop;                          // under lock
    unsigned threads;                   // constant
    void (*begin)(void);                // constant; first on each thread
    pthread_t thread[POOL_THREADS_MAX];
};

// The next request, or NULL when the pool stops.
static struct block_request *take(struct block_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stop) {
        pool->idle++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->idle--;
    }
    struct block_request *request = pool->first;
    if (request)
        pool->first = request->next;
    if (!pool->first)
        pool->last = NULL;
    pthread_mutex_unlock(&pool->lock);
    return request;
}

static void *work(void *argument)
{
    struct block_pool *pool = argument;
    struct block_request *request;
    if (pool->begin)
        pool->begin();
    while ((request = take(pool)))
        block_request_run(request);
    return NULL;
}

void block_pool_push(struct block_pool *pool, struct block_request *request)
{
    request->next = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->last)
        pool->last->next = request;
    else
        pool->first = request;
    pool->last = request;
    bool wake = pool->idle > 0;
    pthread_mutex_unlock(&pool->lock);
    if (wake)
        pthread_cond_signal(&pool->work);
}

struct block_pool *block_pool_create(unsigned threads, struct err *err)
{
    return block_pool_create_with(threads, NULL, err);
}

struct block_pool *block_pool_create_with(unsigned threads, void (*begin)(void), struct err *err)
{
    struct block_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) {
        err_set(err, ERR_LIMIT, "no memory for I/O threads");
        return NULL;
    }
    pool->begin = begin;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    if (threads > POOL_THREADS_MAX)
        threads = POOL_THREADS_MAX;
    for (; pool->threads < threads; pool->threads++) {
        int rc = pthread_create(&pool->thread[pool->threads], NULL, work, pool);
        if (rc && pool->threads == 0) {
            err_set_errno(err, rc, "cannot start I/O threads");
            block_pool_destroy(pool);
            return NULL;
        }
        if (rc) // some threads are enough
            break;
    }
    return pool;
}

void block_pool_destroy(struct block_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    for (unsigned i = 0; i < pool->threads; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
