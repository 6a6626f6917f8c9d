// SPDX-License-Identifier: Apache-2.0
//
// Two FIFOs of 16 bytes and the registers around them. Everything that can raise the interrupt ends
// in update(), which derives the IIR from the state and sets the line.
//
// Transmitting: a byte goes into the transmit FIFO, and from there at once to the back end, as far
// as it takes them. The FIFO keeps bytes only while the back end is full; THRE is then off, and a
// guest waits as it would for a slow line.
//
// Receiving in 16450 mode (FIFOs off) uses one place of the receive FIFO.
#include "machine/chip/uart.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define FIFO_BYTES 16u
#define PORTS      8u

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum { IER_RX = 1 << 0, IER_THRE = 1 << 1, IER_LINE = 1 << 2, IER_MODEM = 1 << 3, IER_ALL = 0x0F };
enum {
    IIR_MODEM = 0x00,
    IIR_NONE = 0x01,
    IIR_THRE = 0x02,
    IIR_RX = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0C,
    IIR_FIFOS = 0xC0,
};
enum { FCR_ENABLE = 1 << 0, FCR_CLEAR_RX = 1 << 1, FCR_CLEAR_TX = 1 << 2, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_DLAB = 0x80 };
enum {
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT1 = 1 << 2,
    MCR_OUT2 = 1 << 3,
    MCR_LOOP = 1 << 4,
    MCR_ALL = 0x1F
};
enum {
    LSR_READY = 1 << 0,
    LSR_OVERRUN = 1 << 1,
    LSR_THRE = 1 << 5,
    LSR_IDLE = 1 << 6,
    LSR_ERRORS = 0x1E
};
enum { MSR_CTS = 1 << 4, MSR_DSR = 1 << 5, MSR_RI = 1 << 6, MSR_DCD = 1 << 7, MSR_DELTAS = 0x0F };

static const uint8_t trigger_levels[] = {1, 4, 8, 14};

struct fifo {
    uint8_t bytes[FIFO_BYTES];
    uint8_t first, count;
};

struct uart {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range range;
    struct irq_line irq;
    struct char_backend backend;
    // Under the lock.
    pthread_mutex_t lock;
    struct fifo rx, tx;
    uint8_t ier, lcr, mcr, scr;
    uint8_t msr_deltas; // MSR bits 0 to 3
    uint8_t lsr_errors; // LSR bits 1 to 4
    uint8_t trigger;    // index into trigger_levels
    bool fifos;         // FCR bit 0
    bool thre_pending;  // the transmitter ran empty and nobody has looked
    uint16_t divisor;
    bool line;    // what the interrupt line was set to last
    bool refused; // the back end has input that we did not take
};

static void fifo_clear(struct fifo *fifo)
{
    fifo->first = fifo->count = 0;
}

static void fifo_push(struct fifo *fifo, uint8_t byte)
{
    fifo->bytes[(fifo->first + fifo->count) % FIFO_BYTES] = byte;
    fifo->count++;
}

static uint8_t fifo_pop(struct fifo *fifo)
{
    uint8_t byte = fifo->bytes[fifo->first];
    fifo->first = (fifo->first + 1) % FIFO_BYTES;
    fifo->count--;
    return byte;
}

static unsigned rx_room(const struct uart *uart)
{
    return (uart->fifos ? FIFO_BYTES : 1) - uart->rx.count;
}

// The highest pending interrupt as it stands in IIR bits 0 to 3.
static uint8_t identify(const struct uart *uart)
{
    if ((uart->ier & IER_LINE) && uart->lsr_errors)
        return IIR_LINE;
    if ((uart->ier & IER_RX) && uart->rx.count) {
        bool reached = !uart->fifos || uart->rx.count >= trigger_levels[uart->trigger];
        return reached ? IIR_RX : IIR_TIMEOUT;
    }
    if ((uart->ier & IER_THRE) && uart->thre_pending)
        return IIR_THRE;
    if ((uart->ier & IER_MODEM) && uart->msr_deltas)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update(struct uart *uart)
{
    bool level = (uart->mcr & MCR_OUT2) && identify(uart) != IIR_NONE;
    if (level != uart->line)
        irq_set(&uart->irq, level);
    uart->line = level;
}

static uint8_t modem_lines(const struct uart *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    uint8_t lines = 0;
    if (uart->mcr & MCR_RTS)
        lines |= MSR_CTS;
    if (uart->mcr & MCR_DTR)
        lines |= MSR_DSR;
    if (uart->mcr & MCR_OUT1)
        lines |= MSR_RI;
    if (uart->mcr & MCR_OUT2)
        lines |= MSR_DCD;
    return lines;
}

static void drain(struct uart *uart)
{
    bool had = uart->tx.count;
    while (uart->tx.count) {
        size_t run = FIFO_BYTES - uart->tx.first;
        if (run > uart->tx.count)
            run = uart->tx.count;
        size_t taken = char_backend_write(&uart->backend, uart->tx.bytes + uart->tx.first, run);
        if (taken > run)
            taken = run;
        uart->tx.first = (uint8_t)((uart->tx.first + taken) % FIFO_BYTES);
        uart->tx.count = (uint8_t)(uart->tx.count - taken);
        if (taken < run)
            return;
    }
    if (had)
        uart->thre_pending = true;
}

static void transmit(struct uart *uart, uint8_t byte)
{
    uart->thre_pending = false;
    if (uart->mcr & MCR_LOOP) {
        if (rx_room(uart))
            fifo_push(&uart->rx, byte);
        else
            uart->lsr_errors |= LSR_OVERRUN;
        uart->thre_pending = true;
        return;
    }
    // A guest that writes although THRE is off loses the byte, as on the chip.
    if (uart->tx.count < (uart->fifos ? FIFO_BYTES : 1))
        fifo_push(&uart->tx, byte);
    drain(uart);
}

static void write_fcr(struct uart *uart, uint8_t value)
{
    bool enable = value & FCR_ENABLE;
    // Bytes that the guest was promised to have been sent stay; those of the other mode go.
    if (enable != uart->fifos || (enable && (value & FCR_CLEAR_RX)))
        fifo_clear(&uart->rx);
    if (enable && (value & FCR_CLEAR_TX) && uart->tx.count) {
        fifo_clear(&uart->tx);
        uart->thre_pending = true;
    }
    uart->fifos = enable;
    uart->trigger = enable ? value >> FCR_TRIGGER_SHIFT : 0;
}

static void write_ier(struct uart *uart, uint8_t value)
{
    // Enabling the interrupt of an empty transmitter raises it at once.
    if ((value & IER_THRE) && !(uart->ier & IER_THRE) && !uart->tx.count)
        uart->thre_pending = true;
    uart->ier = value & IER_ALL;
}

static void write_mcr(struct uart *uart, uint8_t value)
{
    uint8_t before = modem_lines(uart);
    uart->mcr = value & MCR_ALL;
    uint8_t after = modem_lines(uart), changed = before ^ after;
    uart->msr_deltas |= (uint8_t)(changed >> 4) & (uint8_t) ~(MSR_RI >> 4);
    if (before & ~after & MSR_RI) // the trailing edge of ring
        uart->msr_deltas |= MSR_RI >> 4;
}

static void uart_write(void *device, uint64_t offset, uint64_t wide, unsigned size)
{
    struct uart *uart = device;
    uint8_t value = (uint8_t)wide;
    bool want_input = false;
    pthread_mutex_lock(&uart->lock);
    bool latch = uart->lcr & LCR_DLAB;
    switch (offset) {
    case REG_DATA:
        if (latch)
            uart->divisor = (uint16_t)((uart->divisor & 0xFF00) | value);
        else
            transmit(uart, value);
        break;
    case REG_IER:
        if (latch)
            uart->divisor = (uint16_t)((uart->divisor & 0xFF) | value << 8);
        else
            write_ier(uart, value);
        break;
    case REG_IIR_FCR:
        write_fcr(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        write_mcr(uart, value);
        break;
    case REG_SCR:
        uart->scr = value;
        break;
    default: // LSR and MSR are read only
        break;
    }
    update(uart);
    if (uart->refused && rx_room(uart) && !(uart->mcr & MCR_LOOP)) {
        uart->refused = false;
        want_input = true;
    }
    pthread_mutex_unlock(&uart->lock);
    if (want_input)
        char_backend_want_input(&uart->backend);
}

static uint8_t read_lsr(struct uart *uart)
{
    uint8_t lsr = uart->lsr_errors;
    if (uart->rx.count)
        lsr |= LSR_READY;
    if (!uart->tx.count)
        lsr |= LSR_THRE | LSR_IDLE;
    uart->lsr_errors = 0;
    return lsr;
}

static uint8_t read_iir(struct uart *uart)
{
    uint8_t iir = identify(uart);
    if (iir == IIR_THRE)
        uart->thre_pending = false;
    return iir | (uart->fifos ? IIR_FIFOS : 0);
}

static uint8_t read_msr(struct uart *uart)
{
    uint8_t msr = modem_lines(uart) | uart->msr_deltas;
    uart->msr_deltas = 0;
    return msr;
}

static uint8_t read_register(struct uart *uart, uint64_t offset)
{
    bool latch = uart->lcr & LCR_DLAB;
    switch (offset) {
    case REG_DATA:
        if (latch)
            return (uint8_t)uart->divisor;
        return uart->rx.count ? fifo_pop(&uart->rx) : 0;
    case REG_IER:
        return latch ? (uint8_t)(uart->divisor >> 8) : uart->ier;
    case REG_IIR_FCR:
        return read_iir(uart);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return read_lsr(uart);
    case REG_MSR:
        return read_msr(uart);
    default:
        return uart->scr;
    }
}

static uint64_t uart_read(void *device, uint64_t offset, unsigned size)
{
    struct uart *uart = device;
    pthread_mutex_lock(&uart->lock);
    uint8_t value = read_register(uart, offset);
    update(uart);
    // Asked for when the FIFO has run empty: one hand-over then fills it, instead of one for each
    // byte.
    bool want_input = uart->refused && !uart->rx.count && !(uart->mcr & MCR_LOOP);
    if (want_input)
        uart->refused = false;
    pthread_mutex_unlock(&uart->lock);
    if (want_input)
        char_backend_want_input(&uart->backend);
    return value;
}

static const struct bus_ops uart_bus_ops = {uart_read, uart_write, 1, 1};

size_t uart_input(struct uart *uart, const uint8_t *bytes, size_t length)
{
    pthread_mutex_lock(&uart->lock);
    size_t taken = uart->mcr & MCR_LOOP ? 0 : rx_room(uart);
    if (taken > length)
        taken = length;
    for (size_t i = 0; i < taken; i++)
        fifo_push(&uart->rx, bytes[i]);
    uart->refused = taken < length;
    update(uart);
    pthread_mutex_unlock(&uart->lock);
    return taken;
}

void uart_output_ready(struct uart *uart)
{
    pthread_mutex_lock(&uart->lock);
    drain(uart);
    update(uart);
    pthread_mutex_unlock(&uart->lock);
}

static const struct field fields[] = {
    FIELD_U8S(struct uart, rx.bytes),
    FIELD_U8_MAX(struct uart, rx.first, FIFO_BYTES - 1),
    FIELD_U8_MAX(struct uart, rx.count, FIFO_BYTES),
    FIELD_U8S(struct uart, tx.bytes),
    FIELD_U8_MAX(struct uart, tx.first, FIFO_BYTES - 1),
    FIELD_U8_MAX(struct uart, tx.count, FIFO_BYTES),
    FIELD_U8_MAX(struct uart, ier, IER_ALL),
    FIELD_U8(struct uart, lcr),
    FIELD_U8_MAX(struct uart, mcr, MCR_ALL),
    FIELD_U8(struct uart, scr),
    FIELD_U8_MAX(struct uart, msr_deltas, MSR_DELTAS),
    FIELD_U8_MAX(struct uart, lsr_errors, LSR_ERRORS),
    FIELD_U8_MAX(struct uart, trigger, ARRAY_LENGTH(trigger_levels) - 1),
    FIELD_BOOL(struct uart, fifos),
    FIELD_BOOL(struct uart, thre_pending),
    FIELD_U16(struct uart, divisor),
};

static void uart_reset(void *device)
{
    struct uart *uart = device;
    pthread_mutex_lock(&uart->lock);
    fifo_clear(&uart->rx);
    fifo_clear(&uart->tx);
    uart->ier = uart->lcr = uart->mcr = uart->scr = 0;
    uart->msr_deltas = uart->lsr_errors = uart->trigger = 0;
    uart->fifos = uart->thre_pending = false;
    uart->divisor = 12; // 9600 baud, as firmware leaves it
    bool want_input = uart->refused;
    uart->refused = false;
    update(uart);
    pthread_mutex_unlock(&uart->lock);
    if (want_input)
        char_backend_want_input(&uart->backend);
}

static int uart_check(const void *device, struct err *err)
{
    const struct uart *uart = device;
    if (!uart->fifos && uart->rx.count > 1)
        return err_set(err, ERR_INPUT, "%u bytes received with the FIFOs off", uart->rx.count);
    return 0;
}

// Whatever the new back end has waiting, it may offer.
static void uart_loaded(void *device)
{
    struct uart *uart = device;
    pthread_mutex_lock(&uart->lock);
    uart->refused = false;
    drain(uart);
    update(uart);
    irq_set(&uart->irq, uart->line); // the controller may have been loaded with another level
    pthread_mutex_unlock(&uart->lock);
    char_backend_want_input(&uart->backend);
}

static const struct device_ops uart_device_ops = {
    .kind = "uart",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = uart_reset,
    .check = uart_check,
    .loaded = uart_loaded,
};

struct uart *uart_create(const char *name, struct bus *ports, uint16_t port, struct irq_line irq,
                         struct char_backend backend, struct err *err)
{
    struct uart *uart = calloc(1, sizeof(*uart));
    if (!uart) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&uart->lock, NULL);
    uart->device = (struct device){.ops = &uart_device_ops, .name = name, .self = uart};
    uart->ports = ports;
    uart->range = (struct bus_range){name, port, PORTS, &uart_bus_ops, uart, false, 0};
    uart->irq = irq;
    uart->backend = backend;
    uart->divisor = 12;
    if (bus_add(ports, &uart->range, err) != 0) {
        uart_destroy(uart);
        return NULL;
    }
    return uart;
}

void uart_destroy(struct uart *uart)
{
    if (!uart)
        return;
    bus_remove(uart->ports, &uart->range);
    pthread_mutex_destroy(&uart->lock);
    free(uart);
}

struct device *uart_device(struct uart *uart)
{
    return &uart->device;
}
