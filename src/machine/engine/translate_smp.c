// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/translate_smp.h"

#include "machine/engine/mmu.h"
#include "machine/engine/vectors.h"
#include "os/futex.h"
#include "os/native_code.h"

static struct translate_cpu *translate_of(struct vcpu *vcpu)
{
    return &engine_cpu_of(vcpu)->translate;
}

static void answer_flush(struct vcpu *vcpu)
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
    struct translate_cpu *translate = translate_of(vcpu);

    atomic_store(&translate->running, 0);
    os_futex_wake_all(&translate->running);
    answer_flush(vcpu);
}

void smp_start_running(struct vcpu *vcpu)
{
    atomic_store(&translate_of(vcpu)->running, 1);
    smp_answer(vcpu);
}

void smp_answer(struct vcpu *vcpu)
{
    struct translator *translator = translator_of(vcpu);

    answer_flush(vcpu);
    while (atomic_load(&translator->flushing)) {
        smp_stop_running(vcpu);
        pthread_mutex_lock(&translator->lock);
        atomic_store(&translate_of(vcpu)->running, 1);
        pthread_mutex_unlock(&translator->lock);
    }
}

void translator_lock(struct translator *translator, struct vcpu *vcpu)
{
    if (pthread_mutex_trylock(&translator->lock) == 0)
        return;
    if (vcpu)
        smp_stop_running(vcpu);
    pthread_mutex_lock(&translator->lock);
    if (vcpu) {
        atomic_store(&translate_of(vcpu)->running, 1);
        answer_flush(vcpu);
    }
}

void translator_unlock(struct translator *translator)
{
    pthread_mutex_unlock(&translator->lock);
}

static void ask(struct vcpu *other)
{
    atomic_fetch_or(&other->events, VCPU_EVENT_CODE);
}

void smp_flush_writes(struct translator *translator, struct vcpu *vcpu)
{
    struct cpu_system *system = translator->system;

    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *other = system->vcpus[i];
        if (!other || other == vcpu)
            continue;
        atomic_store(&translate_of(other)->flush_wanted, 1);
        ask(other);
    }
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *other = system->vcpus[i];
        if (!other || other == vcpu)
            continue;
        struct translate_cpu *translate = translate_of(other);
        while (atomic_load(&translate->flush_wanted) && atomic_load(&translate->running))
            os_futex_wait(&translate->flush_wanted, 1);
    }
}

void smp_leave_cache(struct translator *translator, struct vcpu *vcpu)
{
    struct cpu_system *system = translator->system;

    atomic_store(&translator->flushing, true);
    smp_code_dropped(translator);
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *other = system->vcpus[i];
        if (!other || other == vcpu)
            continue;
        while (atomic_load(&translate_of(other)->running))
            os_futex_wait(&translate_of(other)->running, 1);
    }
}

void smp_back_to_cache(struct translator *translator)
{
    // The memory held other code: no vCPU's core may go on with what it fetched then.
    os_code_sync();
    atomic_store(&translator->flushing, false);
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
