// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/translate_smp.h"

#include "machine/engine/mmu.h"
#include "machine/engine/vectors.h"
#include "os/futex.h"

static struct translate_cpu *translate_of(struct vcpu *vcpu)
{
    return &engine_cpu_of(vcpu)->translate;
}

// Two may ask at once: a request that comes between the flush and the store is answered by that flush, since nothing was filled in between.
void smp_answer(struct vcpu *vcpu)
{
    struct translate_cpu *translate = translate_of(vcpu);

    if (atomic_load(&translate->flush_wanted)) {
        vectors_put_away(vcpu);
        mmu_flush_write(vcpu);
        atomic_store(&translate->flush_wanted, 0);
        os_futex_wake_all(&translate->flush_wanted);
    }
}

// The asker writes flush_wanted and reads `running`, we write `running` and read flush_wanted: one of the two sees the other.
void smp_stop_running(struct vcpu *vcpu)
{
    atomic_store(&translate_of(vcpu)->running, 0);
    smp_answer(vcpu);
}

void smp_start_running(struct vcpu *vcpu)
{
    atomic_store(&translate_of(vcpu)->running, 1);
    smp_answer(vcpu);
}

void translator_lock(struct translator *translator)
{
    pthread_mutex_lock(&translator->lock);
}

void translator_unlock(struct translator *translator)
{
    pthread_mutex_unlock(&translator->lock);
}

static void ask(struct vcpu *other)
{
    atomic_fetch_or(&other->events, VCPU_EVENT_CODE);
}

static void ask_for_flush(struct vcpu *other)
{
    atomic_store(&translate_of(other)->flush_wanted, 1);
    ask(other);
}

static void wait_for_flush(struct vcpu *other)
{
    struct translate_cpu *translate = translate_of(other);

    while (atomic_load(&translate->flush_wanted) && atomic_load(&translate->running))
        os_futex_wait(&translate->flush_wanted, 1);
}

void smp_flush_writes(struct translator *translator, struct vcpu *vcpu)
{
    struct cpu_system *system = translator->system;

    translator_unlock(translator);
    smp_stop_running(vcpu);
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        if (system->vcpus[i] && system->vcpus[i] != vcpu)
            ask_for_flush(system->vcpus[i]);
    }
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        if (system->vcpus[i] && system->vcpus[i] != vcpu)
            wait_for_flush(system->vcpus[i]);
    }
    smp_start_running(vcpu);
    translator_lock(translator);
}

void smp_code_dropped(struct translator *translator)
{
    struct cpu_system *system = translator->system;

    for (unsigned i = 0; i < system->vcpu_count; i++) {
        if (!system->vcpus[i])
            continue;
        atomic_store(&translate_of(system->vcpus[i])->code_dropped, true);
        ask(system->vcpus[i]);
    }
}
