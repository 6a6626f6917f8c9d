// SPDX-License-Identifier: Apache-2.0
//
// An event loop: descriptors, timers and calls from other threads, each handled in turn on one thread.
//
// The main thread of a process runs one, and so does every I/O thread of a machine (os_loop_thread). What a
// loop handles never needs a lock against other things on the same loop. Everything that is registered is
// embedded in its owner and borrowed by the loop; nothing is allocated while the loop runs.
//
// Threads. os_loop_post(), os_loop_stop() and os_loop_call() may be called from any thread. All else is for
// the loop's own thread, or for any one thread while nobody runs the loop (os_loop_call() brings a
// function there).
#ifndef WIRT_OS_LOOP_H
#define WIRT_OS_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct os_loop;

struct os_loop *os_loop_create(struct err *err);
void os_loop_destroy(struct os_loop *loop); // NULL is fine; nobody runs it

// Handles events until os_loop_stop().
void os_loop_run(struct os_loop *loop);
void os_loop_stop(struct os_loop *loop);
// Handles what is ready now, or waits for at most `timeout_ns` (UINT64_MAX: without end) and handles the
// first that comes. Returns whether anything was handled.
bool os_loop_turn(struct os_loop *loop, uint64_t timeout_ns);
// How often its thread has woken since the start.
uint64_t os_loop_turns(const struct os_loop *loop);

// Readable while something waits to be handled: for a loop that runs inside somebody else's. Borrowed.
int os_loop_descriptor(const struct os_loop *loop);

// ---- Descriptors, level triggered.
enum os_loop_events {
    OS_LOOP_READ = 1,
    OS_LOOP_WRITE = 2,
    OS_LOOP_HANGUP = 4, // the other end is gone or in error; always reported, never asked for
};

struct os_loop_watch {
    void (*ready)(void *context, unsigned events);
    void *context;
    // Private to the loop.
    int fd;
    unsigned events;
    bool watched;
};

int os_loop_watch(struct os_loop *loop, struct os_loop_watch *watch, int fd, unsigned events,
                  struct err *err);
void os_loop_watch_change(struct os_loop *loop, struct os_loop_watch *watch, unsigned events);
// Afterwards `ready` is not called, not even for an event that was already collected. Nothing if not watched.
void os_loop_unwatch(struct os_loop *loop, struct os_loop_watch *watch);

// ---- Timers, on os_clock_monotonic_ns().
struct os_loop_timer {
    void (*expired)(void *context);
    void *context;
    // Private to the loop.
    uint64_t deadline_ns;
    struct os_loop_timer *next;
    bool armed;
};

void os_loop_timer_arm(struct os_loop *loop, struct os_loop_timer *timer, uint64_t deadline_ns);
void os_loop_timer_disarm(struct os_loop *loop, struct os_loop_timer *timer);

// ---- Posts: run `function` on the loop's thread soon. A post that is pending already is not queued twice; one
// that is posted while its function runs is run again.
struct os_loop_post {
    void (*function)(void *context);
    void *context;
    // Private to the loop.
    struct os_loop_post *next;
    atomic_bool pending;
};

void os_loop_post(struct os_loop *loop, struct os_loop_post *post);

// Runs `function` on the loop's thread and returns when it is done; directly when this is that thread or when
// nobody runs the loop. The caller holds no lock that anything on the loop takes.
void os_loop_call(struct os_loop *loop, void (*function)(void *context), void *context);

// After it returns the post is not queued and its function not running. Nobody posts it meanwhile.
void os_loop_post_cancel(struct os_loop *loop, struct os_loop_post *post);

// ---- A thread that runs a loop.
struct os_loop_thread {
    struct os_loop *loop;         // borrowed
    void (*begin)(void *context); // runs first on the thread (its sandbox), or NULL
    void *context;
    const char *name; // as given to os_loop_thread_start(), borrowed
    pthread_t thread;
};

int os_loop_thread_start(struct os_loop_thread *thread, const char *name, struct err *err);
void os_loop_thread_stop(struct os_loop_thread *thread); // waits until the thread has ended

#endif
