// SPDX-License-Identifier: Apache-2.0
//
// A 16550A serial port (National Semiconductor PC16550D data sheet, sections 6.7 and 8).
//
// It is as fast as its back end: a byte written is transmitted at once, and the character time-out
// of the receive FIFO has always passed. The interrupt goes through OUT2 as on a PC. The modem is
// always there: CTS, DSR and DCD are on.
#ifndef WIRT_MACHINE_CHIP_UART_H
#define WIRT_MACHINE_CHIP_UART_H

#include "machine/chip/chip.h"
#include "machine/device/char_backend.h"

#define UART_COM1_PORT 0x3F8u
#define UART_COM1_IRQ  4u

struct uart;

struct uart *uart_create(const char *name, struct bus *ports, uint16_t port, struct irq_line irq,
                         struct char_backend backend, struct err *err);
void uart_destroy(struct uart *uart);
struct device *uart_device(struct uart *uart);

// From the back end, any thread. Input: how many bytes were taken; the rest is asked for by
// `input_wanted`.
size_t uart_input(struct uart *uart, const uint8_t *bytes, size_t length);
void uart_output_ready(struct uart *uart);

#endif
