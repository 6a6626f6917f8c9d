// SPDX-License-Identifier: Apache-2.0
//
// How it works: one epoll set holds the watches, an eventfd and a timerfd. Posts go on a lock-free stack; the
// one who finds it empty raises the eventfd, so that a burst of posts costs one system call. The timerfd
// holds the earliest deadline of a sorted list (a loop has a handful of timers).
#include "os/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/clock.h"
#include "os/event_counter.h"

#define BATCH 32

struct os_loop {
    // Constant after creation.
    int epoll_fd, timer_fd, event_fd;

    // The loop thread's own.
    struct os_loop_timer *timers; // by deadline
    uint64_t timer_set_ns;        // what the timerfd is armed with; 0: not
    uint64_t turns;
    struct epoll_event batch[BATCH];
    unsigned batch_length;
    struct os_loop_post *queue, **queue_end; // posts taken off the stack, oldest first

    // Any thread.
    struct os_loop_post *_Atomic posts; // a stack
    atomic_bool stopping;
    atomic_bool running;
    _Atomic pthread_t
        runner; // whose thread it is while `running`; 0 while a new thread is not there yet
};

// The two descriptors of the loop's own are told from watches by their addresses.
static bool is_own(const struct os_loop *loop, const void *pointer)
{
    return pointer == &loop->timer_fd || pointer == &loop->event_fd;
}

static int add_own(struct os_loop *loop, int *fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return *fd < 0 ? -1 : epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, *fd, &event);
}

struct os_loop *os_loop_create(struct err *err)
{
    struct os_loop *loop = calloc(1, sizeof(*loop));
    if (!loop) {
        err_set_errno(err, ENOMEM, "event loop");
        return NULL;
    }
    loop->queue_end = &loop->queue;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->event_fd = os_event_counter_open();
    if (loop->epoll_fd < 0 || add_own(loop, &loop->timer_fd) < 0 ||
        add_own(loop, &loop->event_fd) < 0) {
        err_set_errno(err, errno, "event loop");
        os_loop_destroy(loop);
        return NULL;
    }
    return loop;
}

void os_loop_destroy(struct os_loop *loop)
{
    if (!loop)
        return;
    assert(!loop->running);
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop);
}

int os_loop_descriptor(const struct os_loop *loop)
{
    return loop->epoll_fd;
}

// ---- Watches

static uint32_t epoll_events(unsigned events)
{
    return (events & OS_LOOP_READ ? (uint32_t)EPOLLIN : 0) |
           (events & OS_LOOP_WRITE ? (uint32_t)EPOLLOUT : 0);
}

int os_loop_watch(struct os_loop *loop, struct os_loop_watch *watch, int fd, unsigned events,
                  struct err *err)
{
    assert(!watch->watched);
    struct epoll_event event = {.events = epoll_events(events), .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_set_errno(err, errno, "cannot wait for descriptor %d", fd);
    watch->fd = fd;
    watch->events = events;
    watch->watched = true;
    return 0;
}

void os_loop_watch_change(struct os_loop *loop, struct os_loop_watch *watch, unsigned events)
{
    if (!watch->watched || watch->events == events)
        return;
    struct epoll_event event = {.events = epoll_events(events), .data.ptr = watch};
    int result = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    assert(result == 0);
    (void)result;
    watch->events = events;
}

void os_loop_unwatch(struct os_loop *loop, struct os_loop_watch *watch)
{
    if (!watch->watched)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->watched = false;
    for (unsigned i = 0; i < loop->batch_length; i++)
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
}

// ---- Timers

static void set_timerfd(struct os_loop *loop)
{
    uint64_t deadline = loop->timers ? loop->timers->deadline_ns : 0;
    if (deadline == loop->timer_set_ns)
        return;
    loop->timer_set_ns = deadline;
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(deadline / 1000000000u),
                                           .tv_nsec = (long)(deadline % 1000000000u)}};
    timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void unlink_timer(struct os_loop *loop, struct os_loop_timer *timer)
{
    struct os_loop_timer **at = &loop->timers;
    while (*at != timer)
        at = &(*at)->next;
    *at = timer->next;
    timer->armed = false;
}

void os_loop_timer_arm(struct os_loop *loop, struct os_loop_timer *timer, uint64_t deadline_ns)
{
    if (timer->armed)
        unlink_timer(loop, timer);
    timer->deadline_ns = deadline_ns ? deadline_ns : 1; // 0 would disarm the timerfd
    struct os_loop_timer **at = &loop->timers;
    while (*at && (*at)->deadline_ns <= timer->deadline_ns)
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
    timer->armed = true;
    set_timerfd(loop);
}

void os_loop_timer_disarm(struct os_loop *loop, struct os_loop_timer *timer)
{
    if (!timer->armed)
        return;
    unlink_timer(loop, timer);
    set_timerfd(loop);
}

// A timer that is armed again for a time already past waits for the next turn: descriptors get theirs.
static bool run_timers(struct os_loop *loop)
{
    if (!loop->timers)
        return false;
    bool any = false;
    uint64_t now = os_clock_monotonic_ns();
    for (unsigned n = 0; n < BATCH && loop->timers && loop->timers->deadline_ns <= now; n++) {
        struct os_loop_timer *timer = loop->timers;
        unlink_timer(loop, timer);
        timer->expired(timer->context);
        any = true;
    }
    loop->timer_set_ns = any ? UINT64_MAX : loop->timer_set_ns; // what it was armed for has passed
    set_timerfd(loop);
    return any;
}

// ---- Posts

void os_loop_post(struct os_loop *loop, struct os_loop_post *post)
{
    if (atomic_exchange(&post->pending, true))
        return;
    struct os_loop_post *head = atomic_load(&loop->posts);
    do
        post->next = head;
    while (!atomic_compare_exchange_weak(&loop->posts, &head, post));
    if (!head)
        os_event_counter_raise(loop->event_fd);
}

static void collect_posts(struct os_loop *loop)
{
    struct os_loop_post *stack = atomic_exchange(&loop->posts, NULL);
    struct os_loop_post *oldest = NULL, *latest = stack;
    while (stack) { // the stack has the latest first
        struct os_loop_post *next = stack->next;
        stack->next = oldest;
        oldest = stack;
        stack = next;
    }
    if (!oldest)
        return;
    *loop->queue_end = oldest;
    loop->queue_end = &latest->next;
}

static void unlink_post(struct os_loop *loop, struct os_loop_post **at)
{
    struct os_loop_post *post = *at;
    *at = post->next;
    if (!*at)
        loop->queue_end = at;
    atomic_store(&post->pending, false);
}

static bool run_posts(struct os_loop *loop)
{
    collect_posts(loop);
    bool any = loop->queue;
    while (loop->queue) {
        struct os_loop_post *post = loop->queue;
        unlink_post(loop, &loop->queue);
        post->function(post->context); // may free the post, or cancel others
    }
    return any;
}

struct call {
    struct os_loop_post post;
    void (*function)(void *context);
    void *context;
    pthread_mutex_t mutex;
    pthread_cond_t done_changed;
    bool done;
};

static void run_call(void *context)
{
    struct call *call = context;
    call->function(call->context);
    pthread_mutex_lock(&call->mutex);
    call->done = true;
    pthread_cond_signal(&call->done_changed);
    pthread_mutex_unlock(&call->mutex);
}

void os_loop_call(struct os_loop *loop, void (*function)(void *context), void *context)
{
    if (!atomic_load(&loop->running) || pthread_equal(atomic_load(&loop->runner), pthread_self())) {
        function(context);
        return;
    }
    struct call call = {.function = function, .context = context};
    call.post.function = run_call;
    call.post.context = &call;
    pthread_mutex_init(&call.mutex, NULL);
    pthread_cond_init(&call.done_changed, NULL);
    os_loop_post(loop, &call.post);
    pthread_mutex_lock(&call.mutex);
    while (!call.done)
        pthread_cond_wait(&call.done_changed, &call.mutex);
    pthread_mutex_unlock(&call.mutex);
    pthread_cond_destroy(&call.done_changed);
    pthread_mutex_destroy(&call.mutex);
}

struct cancel {
    struct os_loop *loop;
    struct os_loop_post *post;
};

static void cancel_here(void *context)
{
    struct cancel *cancel = context;
    collect_posts(cancel->loop);
    for (struct os_loop_post **at = &cancel->loop->queue; *at; at = &(*at)->next)
        if (*at == cancel->post) {
            unlink_post(cancel->loop, at);
            return;
        }
}

void os_loop_post_cancel(struct os_loop *loop, struct os_loop_post *post)
{
    struct cancel cancel = {loop, post};
    os_loop_call(loop, cancel_here, &cancel);
}

// ---- The loop

static void clear_own(struct os_loop *loop, const void *pointer)
{
    if (pointer == &loop->event_fd) {
        os_event_counter_clear(loop->event_fd);
    } else {
        uint64_t count;
        while (read(loop->timer_fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
    }
}

static unsigned os_events(uint32_t events)
{
    return (events & EPOLLIN ? (unsigned)OS_LOOP_READ : 0) |
           (events & EPOLLOUT ? (unsigned)OS_LOOP_WRITE : 0) |
           (events & (EPOLLHUP | EPOLLERR) ? (unsigned)OS_LOOP_HANGUP : 0);
}

static bool run_watches(struct os_loop *loop)
{
    bool any = false;
    for (unsigned i = 0; i < loop->batch_length; i++) {
        void *pointer = loop->batch[i].data.ptr;
        if (!pointer)
            continue;
        if (is_own(loop, pointer)) {
            clear_own(loop, pointer);
            continue;
        }
        struct os_loop_watch *watch = pointer;
        watch->ready(watch->context, os_events(loop->batch[i].events));
        any = true;
    }
    loop->batch_length = 0;
    return any;
}

static int timeout_ms(uint64_t timeout_ns)
{
    if (timeout_ns == UINT64_MAX)
        return -1;
    uint64_t ms = (timeout_ns + 999999) / 1000000;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static bool turn(struct os_loop *loop, uint64_t timeout_ns)
{
    int n = epoll_wait(loop->epoll_fd, loop->batch, BATCH, timeout_ms(timeout_ns));
    loop->batch_length = n > 0 ? (unsigned)n : 0;
    loop->turns++;
    bool any = run_watches(loop);
    any |= run_timers(loop);
    any |= run_posts(loop);
    return any;
}

static void leave(struct os_loop *loop)
{
    atomic_store(&loop->runner, 0);
    atomic_store(&loop->running, false);
}

uint64_t os_loop_turns(const struct os_loop *loop)
{
    return loop->turns;
}

bool os_loop_turn(struct os_loop *loop, uint64_t timeout_ns)
{
    bool nested = atomic_load(&loop->running); // inside a handler of the same loop
    atomic_store(&loop->runner, pthread_self());
    atomic_store(&loop->running, true);
    bool any = turn(loop, timeout_ns);
    if (!nested)
        leave(loop);
    return any;
}

void os_loop_run(struct os_loop *loop)
{
    assert(!atomic_load(&loop->runner));
    atomic_store(&loop->runner, pthread_self());
    atomic_store(&loop->running, true);
    while (!atomic_exchange(&loop->stopping, false))
        turn(loop, UINT64_MAX);
    run_posts(loop); // whoever waits in os_loop_call() must not wait for ever
    leave(loop);
}

void os_loop_stop(struct os_loop *loop)
{
    atomic_store(&loop->stopping, true);
    os_event_counter_raise(loop->event_fd);
}

// ---- Threads

static void *thread_main(void *context)
{
    struct os_loop_thread *thread = context;
    pthread_setname_np(pthread_self(), thread->name);
    if (thread->begin)
        thread->begin(thread->context);
    os_loop_run(thread->loop);
    return NULL;
}

int os_loop_thread_start(struct os_loop_thread *thread, const char *name, struct err *err)
{
    thread->name = name;
    atomic_store(&thread->loop->running, true); // from here on os_loop_call() waits for the thread
    int error = pthread_create(&thread->thread, NULL, thread_main, thread);
    if (error) {
        atomic_store(&thread->loop->running, false);
        return err_set_errno(err, error, "cannot start thread %s", name);
    }
    return 0;
}

void os_loop_thread_stop(struct os_loop_thread *thread)
{
    os_loop_stop(thread->loop);
    pthread_join(thread->thread, NULL);
}
