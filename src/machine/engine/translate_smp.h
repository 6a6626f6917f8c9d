// SPDX-License-Identifier: Apache-2.0
//
// How the vCPUs of a machine agree about translations.
//
// Two things need every vCPU's consent. A page that gets its first translation must lose its write permission in every TLB before its bytes
// are read; and the cache may be emptied only while nobody is in it. Whoever wants that holds the translator's lock, says so in each other
// vCPU's context, raises VCPU_EVENT_CODE, and waits until that vCPU has answered or is not running. A vCPU is "running" while it is in the
// cache or in tier 0; it is not while it waits for the lock, is halted or paused, and answers what it missed before it runs on.
//
// Waiting cannot end in a circle: only the holder of the lock waits, and nobody who waits for the lock is running.
#ifndef WIRT_MACHINE_ENGINE_TRANSLATE_SMP_H
#define WIRT_MACHINE_ENGINE_TRANSLATE_SMP_H

#include "machine/engine/translate.h"

// On the vCPU's thread: around run(), and whenever the run loop looks for events.
void smp_start_running(struct vcpu *vcpu);
void smp_stop_running(struct vcpu *vcpu);
void smp_answer(struct vcpu *vcpu);

// The translator's lock. `vcpu` is the calling thread's, NULL on a thread that is none's.
void translator_lock(struct translator *translator, struct vcpu *vcpu);
void translator_unlock(struct translator *translator);

// With the lock: no vCPU but `vcpu` has a page in the write half of its TLB, or is in the cache. Code that was dropped is unlinked from all.
void smp_flush_writes(struct translator *translator, struct vcpu *vcpu);
void smp_leave_cache(struct translator *translator, struct vcpu *vcpu);
void smp_back_to_cache(struct translator *translator);
void smp_code_dropped(struct translator *translator);

#endif
