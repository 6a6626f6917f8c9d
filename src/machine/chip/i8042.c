// SPDX-License-Identifier: Apache-2.0
//
// The controller has one output byte for the CPU; what a device sends meanwhile waits in the
// device's queue. Whatever could move a byte forward ends in advance(), which fills the output byte
// and sets the interrupt lines.
//
// The keyboard speaks scan code set 2, which the controller translates to set 1 while the
// configuration byte says so (as Linux and BIOSes want it). A port without a device gives 0xFE with
// the time-out bit, so that a probe ends at once.
#include "machine/chip/i8042.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"

#define PORT_DATA    0x60u
#define PORT_COMMAND 0x64u
#define QUEUE_BYTES  16u
#define RAM_BYTES    32u

enum {
    STATUS_OUTPUT_FULL = 1 << 0,
    STATUS_SYSTEM = 1 << 2,
    STATUS_COMMAND = 1 << 3,
    STATUS_UNLOCKED = 1 << 4,
    STATUS_AUX = 1 << 5,
    STATUS_TIMEOUT = 1 << 6,
};
enum {
    CONFIG_IRQ1 = 1 << 0,
    CONFIG_IRQ12 = 1 << 1,
    CONFIG_SYSTEM = 1 << 2,
    CONFIG_KEYBOARD_OFF = 1 << 4,
    CONFIG_AUX_OFF = 1 << 5,
    CONFIG_TRANSLATE = 1 << 6,
};
enum {
    COMMAND_READ_RAM = 0x20,  // to 0x3F
    COMMAND_WRITE_RAM = 0x60, // to 0x7F
    COMMAND_DISABLE_AUX = 0xA7,
    COMMAND_ENABLE_AUX = 0xA8,
    COMMAND_TEST_AUX = 0xA9,
    COMMAND_SELF_TEST = 0xAA,
    COMMAND_TEST_KEYBOARD = 0xAB,
    COMMAND_DISABLE_KEYBOARD = 0xAD,
    COMMAND_ENABLE_KEYBOARD = 0xAE,
    COMMAND_READ_INPUT = 0xC0,
    COMMAND_READ_OUTPUT = 0xD0,
    COMMAND_WRITE_OUTPUT = 0xD1,
    COMMAND_WRITE_AS_KEYBOARD = 0xD2,
    COMMAND_WRITE_AS_AUX = 0xD3,
    COMMAND_WRITE_AUX = 0xD4,
    COMMAND_PULSE = 0xF0, // to 0xFF: bits that are 0 are pulsed low
};
enum { OUTPUT_NOT_RESET = 1 << 0, OUTPUT_A20 = 1 << 1, OUTPUT_UNUSED = 0xCC };
enum { SELF_TEST_PASSED = 0x55, PORT_PASSED = 0x00, INPUT_UNLOCKED = 0x80 };
enum {
    KEYBOARD_SET_LEDS = 0xED,
    KEYBOARD_ECHO = 0xEE,
    KEYBOARD_SCAN_SET = 0xF0,
    KEYBOARD_IDENTIFY = 0xF2,
    KEYBOARD_RATE = 0xF3,
    KEYBOARD_ENABLE = 0xF4,
    KEYBOARD_DISABLE = 0xF5,
    KEYBOARD_DEFAULTS = 0xF6,
    KEYBOARD_RESEND = 0xFE,
    KEYBOARD_RESET = 0xFF,
    KEYBOARD_ACK = 0xFA,
    KEYBOARD_TESTED = 0xAA,
    BREAK = 0xF0, // before a key's code: it was released
};

// Where the output byte came from.
enum source { FROM_CONTROLLER, FROM_KEYBOARD, FROM_AUX, FROM_NOBODY, FROM_COUNT };

struct i8042 {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range data_range, command_range;
    struct irq_line irq1, irq12;
    struct machine_events events;
    bool has_keyboard;
    // Under the lock.
    pthread_mutex_t lock;
    uint8_t ram[RAM_BYTES]; // byte 0 is the configuration
    uint8_t command;        // that waits for its data byte; 0: none
    uint8_t output;
    uint8_t source; // enum source
    bool output_full, output_aux, output_timeout, last_was_command;
    // The keyboard.
    uint8_t queue[QUEUE_BYTES], queue_first, queue_count;
    uint8_t keyboard_command; // that waits for its parameter
    uint8_t scan_set;
    bool scanning;
    bool released; // translation saw BREAK
};

static const uint8_t set2_to_set1[128] = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58,
    0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, //
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A,
    0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, //
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C,
    0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E,
    0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, //
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60,
    0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61, //
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E,
    0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B,
    0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, //
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45,
    0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54, //
};

static uint8_t *config(struct i8042 *c)
{
    return &c->ram[0];
}

// ---- The output byte

static void put(struct i8042 *c, uint8_t byte, enum source source)
{
    c->output = byte;
    c->output_full = true;
    c->output_aux = source == FROM_AUX;
    c->output_timeout = source == FROM_NOBODY;
    c->source = (uint8_t)source;
}

// A keyboard byte on its way through the controller; false when it yields nothing.
static bool translate(struct i8042 *c, uint8_t *byte)
{
    if (!(*config(c) & CONFIG_TRANSLATE))
        return true;
    if (*byte == BREAK) {
        c->released = true;
        return false;
    }
    if (*byte < 0x80)
        *byte = set2_to_set1[*byte];
    else if (*byte == 0x83) // F7
        *byte = 0x41;
    else if (*byte == 0x84) // SysRq
        *byte = 0x54;
    if (c->released)
        *byte |= 0x80;
    c->released = false;
    return true;
}

static void advance(struct i8042 *c)
{
    while (!c->output_full && c->queue_count && !(*config(c) & CONFIG_KEYBOARD_OFF)) {
        uint8_t byte = c->queue[c->queue_first];
        c->queue_first = (c->queue_first + 1) % QUEUE_BYTES;
        c->queue_count--;
        if (translate(c, &byte))
            put(c, byte, FROM_KEYBOARD);
    }
    bool by_device = c->output_full && c->source != FROM_CONTROLLER;
    irq_set(&c->irq1, by_device && !c->output_aux && (*config(c) & CONFIG_IRQ1));
    irq_set(&c->irq12, by_device && c->output_aux && (*config(c) & CONFIG_IRQ12));
}

// ---- The keyboard

static void keyboard_send(struct i8042 *c, uint8_t byte)
{
    if (c->queue_count == QUEUE_BYTES)
        return;
    c->queue[(c->queue_first + c->queue_count++) % QUEUE_BYTES] = byte;
}

static void keyboard_defaults(struct i8042 *c, bool scanning)
{
    c->scan_set = 2;
    c->scanning = scanning;
    c->keyboard_command = 0;
}

static void keyboard_parameter(struct i8042 *c, uint8_t command, uint8_t value)
{
    keyboard_send(c, KEYBOARD_ACK);
    if (command == KEYBOARD_SCAN_SET && value == 0)
        keyboard_send(c, c->scan_set);
    else if (command == KEYBOARD_SCAN_SET && value <= 3)
        c->scan_set = value;
}

static void keyboard_receive(struct i8042 *c, uint8_t value)
{
    uint8_t command = c->keyboard_command;
    c->keyboard_command = 0;
    if (command) {
        keyboard_parameter(c, command, value);
        return;
    }
    switch (value) {
    case KEYBOARD_ECHO:
        keyboard_send(c, KEYBOARD_ECHO);
        break;
    case KEYBOARD_SET_LEDS:
    case KEYBOARD_SCAN_SET:
    case KEYBOARD_RATE:
        c->keyboard_command = value;
        keyboard_send(c, KEYBOARD_ACK);
        break;
    case KEYBOARD_IDENTIFY:
        keyboard_send(c, KEYBOARD_ACK);
        keyboard_send(c, 0xAB);
        keyboard_send(c, 0x83);
        break;
    case KEYBOARD_ENABLE:
        c->scanning = true;
        keyboard_send(c, KEYBOARD_ACK);
        break;
    case KEYBOARD_DISABLE:
    case KEYBOARD_DEFAULTS:
        keyboard_defaults(c, value == KEYBOARD_DEFAULTS);
        keyboard_send(c, KEYBOARD_ACK);
        break;
    case KEYBOARD_RESET:
        c->queue_count = 0;
        keyboard_defaults(c, true);
        keyboard_send(c, KEYBOARD_ACK);
        keyboard_send(c, KEYBOARD_TESTED);
        break;
    default:
        keyboard_send(c, KEYBOARD_RESEND);
        break;
    }
}

bool i8042_key(struct i8042 *c, const uint8_t *codes, unsigned length)
{
    pthread_mutex_lock(&c->lock);
    bool room = c->has_keyboard && c->scanning && length <= QUEUE_BYTES - c->queue_count;
    for (unsigned i = 0; room && i < length; i++)
        keyboard_send(c, codes[i]);
    advance(c);
    pthread_mutex_unlock(&c->lock);
    return room;
}

// ---- The controller

// Returns whether the CPU's reset line was pulled.
static bool write_output_port(uint8_t value)
{
    return !(value & OUTPUT_NOT_RESET);
}

static bool write_command(struct i8042 *c, uint8_t value)
{
    c->command = 0;
    switch (value) {
    case COMMAND_READ_RAM ... COMMAND_READ_RAM + RAM_BYTES - 1:
        put(c, c->ram[value % RAM_BYTES], FROM_CONTROLLER);
        break;
    case COMMAND_WRITE_RAM ... COMMAND_WRITE_RAM + RAM_BYTES - 1:
    case COMMAND_WRITE_OUTPUT:
    case COMMAND_WRITE_AS_KEYBOARD:
    case COMMAND_WRITE_AS_AUX:
    case COMMAND_WRITE_AUX:
        c->command = value;
        break;
    case COMMAND_DISABLE_AUX:
        *config(c) |= CONFIG_AUX_OFF;
        break;
    case COMMAND_ENABLE_AUX:
        *config(c) &= (uint8_t)~CONFIG_AUX_OFF;
        break;
    case COMMAND_TEST_AUX:
    case COMMAND_TEST_KEYBOARD:
        put(c, PORT_PASSED, FROM_CONTROLLER);
        break;
    case COMMAND_SELF_TEST:
        *config(c) |= CONFIG_SYSTEM;
        put(c, SELF_TEST_PASSED, FROM_CONTROLLER);
        break;
    case COMMAND_DISABLE_KEYBOARD:
        *config(c) |= CONFIG_KEYBOARD_OFF;
        break;
    case COMMAND_ENABLE_KEYBOARD:
        *config(c) &= (uint8_t)~CONFIG_KEYBOARD_OFF;
        break;
    case COMMAND_READ_INPUT:
        put(c, INPUT_UNLOCKED, FROM_CONTROLLER);
        break;
    case COMMAND_READ_OUTPUT:
        put(c, OUTPUT_UNUSED | OUTPUT_A20 | OUTPUT_NOT_RESET, FROM_CONTROLLER);
        break;
    case COMMAND_PULSE ... 0xFF:
        return !(value & OUTPUT_NOT_RESET);
    default:
        break;
    }
    return false;
}

static bool write_data(struct i8042 *c, uint8_t value)
{
    uint8_t command = c->command;
    c->command = 0;
    switch (command) {
    case COMMAND_WRITE_RAM ... COMMAND_WRITE_RAM + RAM_BYTES - 1:
        c->ram[command % RAM_BYTES] = value;
        break;
    case COMMAND_WRITE_OUTPUT:
        return write_output_port(value);
    case COMMAND_WRITE_AS_KEYBOARD:
        put(c, value, FROM_KEYBOARD);
        break;
    case COMMAND_WRITE_AS_AUX:
        put(c, value, FROM_AUX);
        break;
    case COMMAND_WRITE_AUX: // there is no mouse
        put(c, KEYBOARD_RESEND, FROM_NOBODY);
        c->output_aux = true;
        break;
    default: // to the keyboard, which this also lets speak again
        *config(c) &= (uint8_t)~CONFIG_KEYBOARD_OFF;
        if (c->has_keyboard)
            keyboard_receive(c, value);
        else
            put(c, KEYBOARD_RESEND, FROM_NOBODY);
        break;
    }
    return false;
}

static uint64_t data_read(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *c = device;
    pthread_mutex_lock(&c->lock);
    uint8_t value = c->output;
    c->output_full = c->output_aux = c->output_timeout = false;
    // The line falls before the next byte raises it again: the input is edge-triggered.
    irq_set(&c->irq1, false);
    irq_set(&c->irq12, false);
    advance(c);
    pthread_mutex_unlock(&c->lock);
    return value;
}

static uint64_t command_read(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *c = device;
    pthread_mutex_lock(&c->lock);
    uint8_t status = STATUS_UNLOCKED;
    status |= c->output_full ? STATUS_OUTPUT_FULL : 0;
    status |= *config(c) & CONFIG_SYSTEM ? STATUS_SYSTEM : 0;
    status |= c->last_was_command ? STATUS_COMMAND : 0;
    status |= c->output_aux ? STATUS_AUX : 0;
    status |= c->output_timeout ? STATUS_TIMEOUT : 0;
    pthread_mutex_unlock(&c->lock);
    return status;
}

static void port_write(struct i8042 *c, bool is_command, uint8_t value)
{
    pthread_mutex_lock(&c->lock);
    c->last_was_command = is_command;
    bool reset = is_command ? write_command(c, value) : write_data(c, value);
    advance(c);
    pthread_mutex_unlock(&c->lock);
    if (reset && c->events.ops->reset)
        c->events.ops->reset(c->events.context);
}

static void data_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    port_write(device, false, (uint8_t)value);
}

static void command_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    port_write(device, true, (uint8_t)value);
}

static const struct bus_ops data_ops = {data_read, data_write, 1, 1};
static const struct bus_ops command_ops = {command_read, command_write, 1, 1};

// ---- The device

static const struct field fields[] = {
    FIELD_U8S(struct i8042, ram),
    FIELD_U8(struct i8042, command),
    FIELD_U8(struct i8042, output),
    FIELD_U8_MAX(struct i8042, source, FROM_COUNT - 1),
    FIELD_BOOL(struct i8042, output_full),
    FIELD_BOOL(struct i8042, output_aux),
    FIELD_BOOL(struct i8042, output_timeout),
    FIELD_BOOL(struct i8042, last_was_command),
    FIELD_U8S(struct i8042, queue),
    FIELD_U8_MAX(struct i8042, queue_first, QUEUE_BYTES - 1),
    FIELD_U8_MAX(struct i8042, queue_count, QUEUE_BYTES),
    FIELD_U8(struct i8042, keyboard_command),
    FIELD_RANGE(FIELD_TYPE_U8, struct i8042, scan_set, 1, 1, 3),
    FIELD_BOOL(struct i8042, scanning),
    FIELD_BOOL(struct i8042, released),
};

static void clear(struct i8042 *c)
{
    for (unsigned i = 0; i < RAM_BYTES; i++)
        c->ram[i] = 0;
    *config(c) = CONFIG_TRANSLATE | CONFIG_SYSTEM;
    c->command = c->output = c->source = 0;
    c->output_full = c->output_aux = c->output_timeout = c->last_was_command = c->released = false;
    c->queue_first = c->queue_count = 0;
    keyboard_defaults(c, true);
}

static void i8042_reset(void *device)
{
    struct i8042 *c = device;
    pthread_mutex_lock(&c->lock);
    clear(c);
    advance(c);
    pthread_mutex_unlock(&c->lock);
}

static void i8042_loaded(void *device)
{
    struct i8042 *c = device;
    pthread_mutex_lock(&c->lock);
    advance(c);
    pthread_mutex_unlock(&c->lock);
}

static const struct device_ops i8042_device_ops = {
    .kind = "i8042",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = i8042_reset,
    .loaded = i8042_loaded,
};

struct i8042 *i8042_create(struct bus *ports, struct irq_line irq1, struct irq_line irq12,
                           bool keyboard, struct machine_events events, struct err *err)
{
    struct i8042 *c = calloc(1, sizeof(*c));
    if (!c) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&c->lock, NULL);
    c->device = (struct device){.ops = &i8042_device_ops, .name = "i8042", .self = c};
    c->ports = ports;
    c->irq1 = irq1;
    c->irq12 = irq12;
    c->events = events;
    c->has_keyboard = keyboard;
    clear(c);
    c->data_range = (struct bus_range){"i8042-data", PORT_DATA, 1, &data_ops, c, false, 0};
    c->command_range =
        (struct bus_range){"i8042-command", PORT_COMMAND, 1, &command_ops, c, false, 0};
    if (bus_add(ports, &c->data_range, err) || bus_add(ports, &c->command_range, err)) {
        i8042_destroy(c);
        return NULL;
    }
    return c;
}

void i8042_destroy(struct i8042 *c)
{
    if (!c)
        return;
    bus_remove(c->ports, &c->data_range);
    bus_remove(c->ports, &c->command_range);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct device *i8042_device(struct i8042 *c)
{
    return &c->device;
}
