// SPDX-License-Identifier: Apache-2.0
//
// How the vCPUs of a machine agree about translations.
//
// A page that gets its first translation must lose its write permission in every TLB before its bytes are read: a vCPU that still has it would
// change code behind our back. Whoever translates marks the page (PAGE_CODE: no TLB is filled for writes from then on), says in each other
// vCPU's context that a flush is wanted, raises VCPU_EVENT_CODE, and waits until that vCPU has answered or is not running. "Running" is
// said of a vCPU while it may write by what its TLB holds: in the cache or in tier 0, also within a device that tier 0 called. It answers between
// instructions only, so that no instruction's write is under way. It does not run while it waits here, is halted or paused, and answers what it
// missed before it runs on.
//
// The rule that makes a deadlock impossible: the translator's lock is the innermost of all, and nobody waits for a vCPU, a device or anything
// else while holding it. So whoever asks for it, an I/O thread with a device's lock in its hand or a vCPU in the middle of an instruction, gets it
// after a bounded time. And who waits for vCPUs (smp_flush_writes()) holds no lock at all and does not run: two that wait for each other
// go on at once, and a vCPU that is waited for is at worst held up by a device, whose lock's holder is held up by nobody here.
//
// What may have happened while the lock was given up is looked at afterwards: writes to the page end the watch (translate_run.c,
// watch_page()), and tier 0 executes the instruction instead, so that there is progress whatever the others do.
//
// The lock does not keep anybody from leaving the cache, and nobody is ever asked to stay out of it: memory of dropped translations is used again by
// epochs (code_epoch.h), which nobody waits for.
#ifndef WIRT_MACHINE_ENGINE_TRANSLATE_SMP_H
#define WIRT_MACHINE_ENGINE_TRANSLATE_SMP_H

#include "machine/engine/translate.h"

// On the vCPU's thread: around what executes, and whenever a run loop looks for events.
void smp_start_running(struct vcpu *vcpu);
void smp_stop_running(struct vcpu *vcpu);
void smp_answer(struct vcpu *vcpu);

// The translator's lock.
void translator_lock(struct translator *translator);
void translator_unlock(struct translator *translator);

// Between instructions, with the lock, which is given up and taken again: afterwards no other vCPU may write by what its TLB held before.
void smp_flush_writes(struct translator *translator, struct vcpu *vcpu);

// With the lock: translations were dropped. Every vCPU is to forget what it remembers of any, and to pass.
void smp_code_dropped(struct translator *translator);

#endif
