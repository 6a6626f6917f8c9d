// SPDX-License-Identifier: Apache-2.0
//
// A fixed number of threads and two lists of requests, threaded through the requests, so that nothing is allocated: those to do, and
// those to do later, by time.
//
// Idle threads are a stack: the one that was idle last is woken first, because its caches are warm. A busy one finds the
// next request by itself. While something is to be done later, one idle thread keeps the time: it sleeps until the first is due.
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "machine/block/pool.h"
#include "os/clock.h"

#define POOL_THREADS_MAX 64
#define SECOND_NS        1000000000ull

struct worker {
    struct block_pool *pool;
    pthread_t thread;
    pthread_cond_t wake;
    struct worker *below; // under lock: the one that was idle before
    bool idle;            // under lock: on the stack
};

struct block_pool {
    pthread_mutex_t lock;
    // Under lock.
    struct block_request *first, *last;
    struct block_request *later; // by due_ns
    struct worker *top;          // of the stack of idle threads
    struct worker *timekeeper;
    bool stop;
    // Constant.
    unsigned threads;
    void (*begin)(void); // first on each thread
    struct worker workers[POOL_THREADS_MAX];
};

// ---- Idle threads; lock held

static void leave_stack(struct block_pool *pool, struct worker *worker)
{
    struct worker **at = &pool->top;
    while (worker->idle && *at != worker)
        at = &(*at)->below;
    if (worker->idle)
        *at = worker->below;
    worker->idle = false;
}

static void wake_one(struct block_pool *pool)
{
    struct worker *worker = pool->top;
    if (!worker)
        return;
    leave_stack(pool, worker);
    pthread_cond_signal(&worker->wake);
}

static void sleep_until(struct block_pool *pool, struct worker *worker, uint64_t due_ns)
{
    struct timespec at = {.tv_sec = (time_t)(due_ns / SECOND_NS),
                          .tv_nsec = (long)(due_ns % SECOND_NS)};
    pool->timekeeper = worker;
    pthread_cond_timedwait(&worker->wake, &pool->lock, &at);
    pool->timekeeper = NULL;
}

static void be_idle(struct block_pool *pool, struct worker *worker)
{
    worker->idle = true;
    worker->below = pool->top;
    pool->top = worker;
    if (pool->later && !pool->timekeeper)
        sleep_until(pool, worker, pool->later->due_ns);
    else
        pthread_cond_wait(&worker->wake, &pool->lock);
    leave_stack(pool, worker);
}

// ---- Requests

// Lock held.
static struct block_request *next_request(struct block_pool *pool)
{
    struct block_request *request = pool->later;
    if (request && request->due_ns <= os_clock_monotonic_ns()) {
        pool->later = request->next;
        return request;
    }
    request = pool->first;
    if (request)
        pool->first = request->next;
    if (!pool->first)
        pool->last = NULL;
    return request;
}

// The next request, or NULL when the pool stops.
static struct block_request *take(struct block_pool *pool, struct worker *worker)
{
    struct block_request *request;
    pthread_mutex_lock(&pool->lock);
    while (!(request = next_request(pool)) && !pool->stop)
        be_idle(pool, worker);
    if (pool->later && !pool->timekeeper) // who kept the time has other work now
        wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
    return request;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct block_request *request;
    if (worker->pool->begin)
        worker->pool->begin();
    while ((request = take(worker->pool, worker)))
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
    wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
}

void block_pool_push_later(struct block_pool *pool, struct block_request *request, uint64_t due_ns)
{
    request->due_ns = due_ns;
    pthread_mutex_lock(&pool->lock);
    struct block_request **at = &pool->later;
    while (*at && (*at)->due_ns <= due_ns)
        at = &(*at)->next;
    request->next = *at;
    *at = request;
    if (pool->later == request && pool->timekeeper)
        pthread_cond_signal(&pool->timekeeper->wake);
    else if (!pool->timekeeper)
        wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
}

// ---- Making

struct block_pool *block_pool_create(unsigned threads, struct err *err)
{
    return block_pool_create_with(threads, NULL, err);
}

static int start(struct block_pool *pool, struct worker *worker)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    worker->pool = pool;
    pthread_cond_init(&worker->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc = pthread_create(&worker->thread, NULL, work, worker);
    if (rc)
        pthread_cond_destroy(&worker->wake);
    return rc;
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
    int rc = block_pool_grow(pool, threads);
    if (!pool->threads) {
        err_set_errno(err, rc, "cannot start I/O threads");
        block_pool_destroy(pool);
        return NULL;
    }
    return pool; // some threads are enough
}

int block_pool_grow(struct block_pool *pool, unsigned threads)
{
    int rc = 0;
    if (threads > POOL_THREADS_MAX)
        threads = POOL_THREADS_MAX;
    while (pool->threads < threads && !rc) {
        rc = start(pool, &pool->workers[pool->threads]);
        pool->threads += !rc;
    }
    return rc;
}

void block_pool_destroy(struct block_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    while (pool->top)
        wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->workers[i].wake);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
