// SPDX-License-Identifier: Apache-2.0
//
// Tier 0's memory accesses off the fast path; see interp_access.h.
#include "machine/engine/interp_access.h"

#include <pthread.h>

#include "machine/engine/exception.h"

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER;

void memory_lock_globally(void)
{
    pthread_mutex_lock(&global_lock);
}

void memory_unlock_globally(void)
{
    pthread_mutex_unlock(&global_lock);
}

// SDM vol. 3, 6.15, interrupt 17: only data accesses at CPL 3, to the operand's natural alignment.
static bool misaligned(const struct vcpu *vcpu, struct gva linear, unsigned bytes)
{
    const struct cpu_state *cpu = &vcpu->state;
    if (!(cpu->rflags & FLAG_AC) || !(cpu->cr0 & CR0_AM) || cpu_cpl(cpu) != 3 || bytes > 32)
        return false;
    unsigned unit = bytes == 10  ? 8
                    : bytes < 16 ? bytes
                                 : 16; // of 32 bytes 16 suffice, of an extended real 8
    return is_power_of_two(unit) && (linear.at & (unit - 1));
}

int memory_linear(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, bool write,
                  struct gva *linear)
{
    if (segment_address(vcpu, (enum segment_name)segment, offset, bytes,
                        write ? SEGMENT_WRITE : SEGMENT_READ, linear))
        return -1;
    if (misaligned(vcpu, *linear, bytes))
        return raise_exception_error(vcpu, EXC_AC, 0);
    return 0;
}

int memory_read_bytes(struct vcpu *vcpu, unsigned segment, uint64_t offset, void *buffer,
                      unsigned bytes)
{
    struct gva linear;
    if (memory_linear(vcpu, segment, offset, bytes, false, &linear))
        return -1;
    return mmu_read(vcpu, linear, buffer, bytes, MMU_NORMAL);
}

int memory_write_bytes(struct vcpu *vcpu, unsigned segment, uint64_t offset, const void *buffer,
                       unsigned bytes)
{
    struct gva linear;
    if (memory_linear(vcpu, segment, offset, bytes, true, &linear))
        return -1;
    return mmu_write(vcpu, linear, buffer, bytes, MMU_NORMAL);
}

int memory_read_slow(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes,
                     uint64_t *value)
{
    uint64_t word = 0;
    if (memory_read_bytes(vcpu, segment, offset, &word, bytes))
        return -1;
    *value = word;
    return 0;
}

int memory_write_slow(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes,
                      uint64_t value)
{
    return memory_write_bytes(vcpu, segment, offset, &value, bytes);
}

// Across two pages, or where there is no RAM, locked operations exclude each other; on RAM they are atomic beside all others, too.
static void open_across(struct vcpu *vcpu, struct open_memory *open)
{
    memory_lock_globally();
    open->holds_global_lock = true;
    open->host = mmu_pointer_across(vcpu, open->linear, open->bytes);
}

int memory_open(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, bool locked,
                struct open_memory *open, uint64_t *value)
{
    open->bytes = (uint8_t)bytes;
    open->locked = locked;
    open->holds_global_lock = false;
    open->host = memory_fast(vcpu, segment, offset, bytes, true);
    if (open->host == NULL) {
        if (memory_linear(vcpu, segment, offset, bytes, true, &open->linear))
            return -1;
        open->host = mmu_pointer(vcpu, open->linear, bytes, MMU_READ_WRITE);
        if (open->host == NULL && locked && engine_cpu_of(vcpu)->exception.vector == EXC_NONE)
            open_across(vcpu, open);
    }
    if (open->host != NULL) {
        *value = host_load(open->host, bytes);
        return 0;
    }
    if (engine_cpu_of(vcpu)->exception.vector != EXC_NONE ||
        mmu_probe(vcpu, open->linear, bytes, MMU_READ_WRITE, MMU_NORMAL)) {
        memory_drop(vcpu, open);
        return -1;
    }
    *value = 0;
    if (mmu_read(vcpu, open->linear, value, bytes, MMU_NORMAL)) {
        memory_drop(vcpu, open);
        return -1;
    }
    return 0;
}

// LOCK CMPXCHG on the guest's own bytes; *expected becomes what was found.
static bool compare_exchange(void *host, unsigned bytes, uint64_t *expected, uint64_t value)
{
    uint64_t found = *expected;
    bool equal;
    switch (bytes) {
    case 1:
        __asm__ volatile("lock cmpxchgb %b[v], (%[p])"
                         : "+a"(found), "=@ccz"(equal)
                         : [v] "q"(value), [p] "r"(host)
                         : "memory");
        break;
    case 2:
        __asm__ volatile("lock cmpxchgw %w[v], (%[p])"
                         : "+a"(found), "=@ccz"(equal)
                         : [v] "r"(value), [p] "r"(host)
                         : "memory");
        break;
    case 4:
        __asm__ volatile("lock cmpxchgl %k[v], (%[p])"
                         : "+a"(found), "=@ccz"(equal)
                         : [v] "r"(value), [p] "r"(host)
                         : "memory");
        break;
    default:
        __asm__ volatile("lock cmpxchgq %[v], (%[p])"
                         : "+a"(found), "=@ccz"(equal)
                         : [v] "r"(value), [p] "r"(host)
                         : "memory");
        break;
    }
    *expected = found & (~0ull >> (64 - 8 * bytes));
    return equal;
}

int memory_close(struct vcpu *vcpu, struct open_memory *open, uint64_t *value, uint64_t new_value)
{
    if (open->host == NULL) {
        int result = mmu_write(vcpu, open->linear, &new_value, open->bytes, MMU_NORMAL);
        memory_drop(vcpu, open);
        return result;
    }
    if (open->locked) {
        if (!compare_exchange(open->host, open->bytes, value, new_value))
            return 1;
        memory_drop(vcpu, open);
        return 0;
    }
    host_store(open->host, open->bytes, new_value);
    return 0;
}

void memory_drop(struct vcpu *vcpu, struct open_memory *open)
{
    if (open->holds_global_lock)
        memory_unlock_globally();
    open->holds_global_lock = false;
}
