// SPDX-License-Identifier: Apache-2.0
//
// The code cache by itself: what is evicted and in which order, that memory is not used again before every reader has passed, that links are patched within
// a cache line; and all of it with threads that execute what others link, drop and overwrite.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "machine/engine/code_cache.h"

#define KEYS        96u
#define CODE_BYTES  (12u * 1024u) // of a block
#define LOOP_ROUNDS 400u
#define READERS     3
#define MODE        8u

// ---- Blocks ----

// Key k is a block at linear and physical address (k + 1) * 2048: two to a page.
static uint64_t address_of(unsigned key)
{
    return (key + 1) * 2048ull;
}

// mov $key, %eax; a loop on %ecx; jmp LINK. What is not linked returns. `misalign` moves the displacement off its boundary.
static struct block *make(struct code_cache *cache, unsigned key, bool misalign)
{
    struct emitter near, far;
    struct block *block = code_cache_begin(cache, &near, &far);

    if (!block)
        return NULL;
    block->rip = address_of(key);
    block->frame = (uint32_t)(address_of(key) >> 12);
    block->mode = MODE;
    block->guest_bytes = 16;
    emit_constant(&near, RAX, key);
    emit_constant(&near, RCX, LOOP_ROUNDS);
    const uint8_t loop[] = {0xFF, 0xC9, 0x75, 0xFC}; // dec %ecx; jnz
    emit_bytes(&near, loop, sizeof(loop));
    emit_nops(&near, CODE_BYTES - 64);
    emit_nops(&near, -(code_cache_offset(cache, near.at) + 1) & 3);
    if (misalign)
        emit_nops(&near, 2);
    uint8_t *jump = emit_jmp(&near);
    emit_target(&near, jump, far.at);
    block->links[0] = (struct link){.patch = code_cache_offset(cache, jump),
                                    .exit = code_cache_offset(cache, far.at)};
    emit_u8(&far, 0xC3);
    const struct fault_site none = {0};
    return code_cache_commit(cache, block, &near, &far, &none, 0) ? block : NULL;
}

static struct block *find(struct code_cache *cache, unsigned key)
{
    return code_cache_find(cache, address_of(key), address_of(key), MODE);
}

static uint32_t execute(const struct code_cache *cache, const struct block *block)
{
    uint32_t (*code)(void) = (uint32_t(*)(void))(uintptr_t)(cache->execute + block->code);
    return code();
}

// ---- One thread ----

static unsigned pages_done, times_dropped;

static void count_page(void *context, uint64_t page)
{
    pages_done++;
}

static void count_dropped(void *context)
{
    times_dropped++;
}

static const struct code_cache_listener counting = {count_page, count_dropped, NULL};

static void open_cache(struct code_cache *cache)
{
    struct err err = {0};

    pages_done = times_dropped = 0;
    assert_int_equal(code_cache_init(cache, CODE_CACHE_MINIMUM, &counting, &err), 0);
}

static bool make_with_room(struct code_cache *cache, unsigned key)
{
    return code_cache_make_room(cache) && make(cache, key, false);
}

static void the_oldest_is_evicted_first(void **state)
{
    struct code_cache cache;
    unsigned made = 0;

    open_cache(&cache);
    while (cache.drops == 0 && made < KEYS)
        assert_true(make_with_room(&cache, made++));
    assert_true(made < KEYS && pages_done > 0 && times_dropped > 0);
    unsigned first = 0;
    while (!find(&cache, first))
        first++;
    assert_int_equal(first, cache.drops);
    for (unsigned key = first; key < made; key++) {
        assert_non_null(find(&cache, key));
        assert_int_equal(execute(&cache, find(&cache, key)), key);
    }
    assert_true(first < made / 2); // most are kept
    code_cache_fini(&cache);
}

static void nothing_is_used_again_before_readers_pass(void **state)
{
    struct code_cache cache;
    struct code_reader reader, away;
    uint64_t epoch;
    unsigned made = 0;

    open_cache(&cache);
    code_epochs_add(&cache.epochs, &reader);
    code_epochs_add(&cache.epochs, &away);
    assert_true(code_reader_passing(&cache.epochs, &reader, &epoch));
    code_reader_pass(&cache.epochs, &reader, epoch);
    while (make_with_room(&cache, made))
        made = (made + 1) % KEYS;
    assert_true(cache.refusals == 1 && cache.reuses == 0);
    // What the reader may still execute has been dropped, and is intact.
    assert_null(find(&cache, 0));
    const struct block *dropped = &cache.blocks[0];
    assert_true(dropped->dropped);
    assert_int_equal(execute(&cache, dropped), 0);
    assert_false(make_with_room(&cache, made)); // still
    assert_true(code_reader_passing(&cache.epochs, &reader, &epoch));
    code_reader_pass(&cache.epochs, &reader, epoch);
    assert_true(make_with_room(&cache, made));
    assert_int_equal(cache.reuses, 1);
    code_reader_away(&reader);
    for (unsigned i = 0; i < 10 * KEYS; i++)
        assert_true(make_with_room(&cache, i % KEYS) || find(&cache, i % KEYS));
    assert_true(cache.reuses > 20);
    code_epochs_remove(&cache.epochs, &away);
    code_epochs_remove(&cache.epochs, &reader);
    code_cache_fini(&cache);
}

static void links_lead_to_the_exit_when_their_target_goes(void **state)
{
    struct code_cache cache;

    open_cache(&cache);
    for (unsigned key = 0; key < 3; key++)
        assert_true(make_with_room(&cache, key));
    struct block *first = find(&cache, 0);
    code_cache_link(&cache, first, 0, find(&cache, 2));
    assert_int_equal(execute(&cache, first), 2);
    assert_int_equal(code_cache_drop(&cache, address_of(2), 1), 1); // 1 is in the same page
    assert_int_equal(execute(&cache, first), 0);
    assert_int_equal(pages_done, 0);
    assert_int_equal(code_cache_drop(&cache, address_of(1), 1), 0);
    assert_int_equal(pages_done, 1);
    code_cache_link(&cache, first, 0, &cache.blocks[2]); // it has gone: refused
    assert_int_equal(execute(&cache, first), 0);
    assert_int_equal(code_cache_drop(&cache, 0x123000, 1),
                     0); // nothing there: the page is told nevertheless
    assert_int_equal(pages_done, 2);
    code_cache_fini(&cache);
}

static void records_of_pages_are_used_again(void **state)
{
    struct code_cache cache;

    open_cache(&cache);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(make_with_room(&cache, i % KEYS));
        code_cache_drop(&cache, address_of(i % KEYS), 1);
    }
    assert_int_equal(cache.page_count, 1);
    code_cache_fini(&cache);
}

static void a_link_across_a_boundary_is_refused(void **state)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct code_cache cache;
        open_cache(&cache);
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        make(&cache, 1, true);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void serializing_comes_back(void **state)
{
    struct code_epochs epochs;
    struct code_reader reader;

    code_epochs_init(&epochs);
    epochs.membarrier = false; // as where it is refused
    code_epochs_add(&epochs, &reader);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t epoch = code_epochs_advance(&epochs);
        code_reader_pass(&epochs, &reader, epoch);
        assert_true(code_epochs_passed(&epochs, epoch));
    }
}

// ---- Readers that execute, and a translator ----

struct crowd {
    struct code_cache cache;
    pthread_mutex_t lock;
    _Atomic bool end;
    _Atomic bool stale[READERS]; // forget the table
    struct code_reader readers[READERS];
    _Atomic uint64_t executed, wrong;
};

struct member {
    struct crowd *crowd;
    unsigned index;
};

static void make_stale(void *context)
{
    struct crowd *crowd = context;
    for (unsigned i = 0; i < READERS; i++)
        atomic_store(&crowd->stale[i], true);
}

static void ignore_page(void *context, uint64_t page)
{
}

static unsigned next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(*seed >> 33);
}

static void pass(struct crowd *crowd, unsigned index, const struct block *table[KEYS])
{
    uint64_t epoch;
    bool passing = code_reader_passing(&crowd->cache.epochs, &crowd->readers[index], &epoch);

    if (atomic_exchange(&crowd->stale[index], false))
        memset(table, 0, KEYS * sizeof(*table));
    if (passing)
        code_reader_pass(&crowd->cache.epochs, &crowd->readers[index], epoch);
}

// As a vCPU does: a table of what it found, quiescent points now and then, at times away.
static void *read_code(void *argument)
{
    const struct member *member = argument;
    struct crowd *crowd = member->crowd;
    const struct block *table[KEYS] = {0};
    uint64_t seed = member->index + 1;

    while (!atomic_load(&crowd->end)) {
        pass(crowd, member->index, table);
        for (unsigned i = 0; i < 8; i++) {
            unsigned key = next_random(&seed) % KEYS;
            if (!table[key])
                table[key] = find(&crowd->cache, key);
            if (!table[key])
                continue;
            uint32_t got = execute(&crowd->cache, table[key]);
            // Links lead to greater keys of the same class.
            if (got >= KEYS || got < key || got % 4 != key % 4)
                atomic_fetch_add(&crowd->wrong, 1);
            atomic_fetch_add(&crowd->executed, 1);
        }
        if (next_random(&seed) % 64 == 0) {
            code_reader_away(&crowd->readers[member->index]);
            sched_yield();
        }
    }
    code_reader_away(&crowd->readers[member->index]);
    return NULL;
}

static void translate_something(struct crowd *crowd, uint64_t *seed)
{
    unsigned key = next_random(seed) % KEYS;

    pthread_mutex_lock(&crowd->lock);
    struct block *block = find(&crowd->cache, key);
    if (!block && code_cache_make_room(&crowd->cache))
        block = make(&crowd->cache, key, false);
    struct block *target = find(&crowd->cache, key + 4);
    if (block && target && key + 4 < KEYS)
        code_cache_link(&crowd->cache, block, 0, target);
    if (next_random(seed) % 4 == 0)
        code_cache_drop(&crowd->cache, address_of(next_random(seed) % KEYS), 1);
    pthread_mutex_unlock(&crowd->lock);
}

static void crowd_goes_on(bool membarrier)
{
    static struct crowd crowd;
    struct err err = {0};
    struct member members[READERS];
    pthread_t threads[READERS];
    uint64_t seed = 99;
    const char *wanted = getenv("WIRT_REUSES"); // in soak
    uint64_t reuses = wanted ? strtoull(wanted, NULL, 0) : 30000;

    crowd = (struct crowd){.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct code_cache_listener listener = {ignore_page, make_stale, &crowd};
    assert_int_equal(code_cache_init(&crowd.cache, CODE_CACHE_MINIMUM, &listener, &err), 0);
    crowd.cache.epochs.membarrier &= membarrier;
    for (unsigned i = 0; i < READERS; i++) {
        code_epochs_add(&crowd.cache.epochs, &crowd.readers[i]);
        members[i] = (struct member){&crowd, i};
    }
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_code, &members[i]), 0);
    while (crowd.cache.reuses < reuses && !atomic_load(&crowd.wrong)) {
        uint64_t refusals = crowd.cache.refusals;
        translate_something(&crowd, &seed);
        if (crowd.cache.refusals != refusals)
            sched_yield(); // the readers may have no processor
    }
    atomic_store(&crowd.end, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    assert_true(atomic_load(&crowd.executed) > reuses);
    code_cache_fini(&crowd.cache);
}

static void memory_is_used_again_under_readers(void **state)
{
    crowd_goes_on(true);
}

static void so_it_is_without_membarrier(void **state)
{
    crowd_goes_on(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_is_evicted_first),
        cmocka_unit_test(nothing_is_used_again_before_readers_pass),
        cmocka_unit_test(links_lead_to_the_exit_when_their_target_goes),
        cmocka_unit_test(records_of_pages_are_used_again),
        cmocka_unit_test(a_link_across_a_boundary_is_refused),
        cmocka_unit_test(serializing_comes_back),
        cmocka_unit_test(memory_is_used_again_under_readers),
        cmocka_unit_test(so_it_is_without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
