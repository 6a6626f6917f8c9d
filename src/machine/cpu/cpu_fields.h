// SPDX-License-Identifier: Apache-2.0
//
// The saved form of struct cpu_state: its table of fields, and the relations between them that a hostile or damaged file could break.
#ifndef WIRT_MACHINE_CPU_CPU_FIELDS_H
#define WIRT_MACHINE_CPU_CPU_FIELDS_H

#include "machine/device/device.h"

// device_ops of a vCPU; the device is the struct vcpu, which begins with its state.
extern const struct device_ops cpu_device_ops;

#endif
