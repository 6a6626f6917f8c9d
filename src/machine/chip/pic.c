// SPDX-License-Identifier: Apache-2.0
//
// Each 8259A holds IRR, ISR and IMR, and answers which request it would make of whom it is wired
// to. The slave's output is the master's input 2. update() passes the slave's answer on and tells
// the CPU when INTR changed.
//
// A line that is edge-triggered sets its IRR bit on a rising edge, and the bit stays although the
// line falls: the chip would ask for a spurious interrupt then, but here devices pulse their lines.
// A level-triggered line is its IRR bit, and so is the slave's output.
#include "machine/chip/pic.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"

#define MASTER_PORT 0x20u
#define SLAVE_PORT  0xA0u
#define ELCR_PORT   0x4D0u
#define CASCADE     2u
#define INPUTS      8u
#define SPURIOUS    7u
#define MASTER_ELCR 0xF8u // lines 0, 1, 2, 8 and 13 are always edge-triggered
#define SLAVE_ELCR  0xDEu

enum { ICW1 = 1 << 4, ICW1_ICW4 = 1 << 0, ICW1_SINGLE = 1 << 1, ICW1_LEVEL = 1 << 3 };
enum { ICW4_AUTO_EOI = 1 << 1, ICW4_SFNM = 1 << 4 };
enum {
    OCW3 = 1 << 3,
    OCW3_READ_ISR = 1 << 0,
    OCW3_READ = 1 << 1,
    OCW3_POLL = 1 << 2,
    OCW3_SMM = 1 << 5,
    OCW3_ESMM = 1 << 6
};
enum { OCW2_EOI = 1 << 5, OCW2_SPECIFIC = 1 << 6, OCW2_ROTATE = 1 << 7 };

// What a write to the data port is: OCW1, or the next initialization word.
enum step { STEP_READY, STEP_ICW2, STEP_ICW3, STEP_ICW4, STEP_COUNT };

struct i8259 {
    uint8_t lines; // levels of the inputs
    uint8_t irr, isr, imr, elcr;
    uint8_t vector_base;
    uint8_t lowest; // input of lowest priority; 7 after initialization
    uint8_t step;   // enum step
    bool wants_icw4, read_isr, poll, special_mask, auto_eoi, rotate_on_auto_eoi,
        special_fully_nested;
    bool icw1_level; // LTIM: all inputs are level-triggered
    // Constant.
    uint8_t elcr_mask;
    bool slave;
};

struct pic {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range master_range, slave_range, elcr_range;
    pic_output *output;
    void *output_context;
    // Under the lock.
    pthread_mutex_t lock;
    struct i8259 master, slave;
    bool intr; // what the CPU was told
};

static unsigned rank(const struct i8259 *chip, unsigned input)
{
    return (input - chip->lowest - 1u) % INPUTS;
}

// Rank of the highest of `inputs`, INPUTS if there is none.
static unsigned highest_rank(const struct i8259 *chip, uint8_t inputs)
{
    unsigned best = INPUTS;
    for (unsigned i = 0; i < INPUTS; i++)
        if ((inputs & BIT(i)) && rank(chip, i) < best)
            best = rank(chip, i);
    return best;
}

static unsigned input_of_rank(const struct i8259 *chip, unsigned rank_)
{
    return (chip->lowest + 1u + rank_) % INPUTS;
}

// The input that this chip requests service for, or -1.
static int requests(const struct i8259 *chip)
{
    unsigned wanted = highest_rank(chip, chip->irr & (uint8_t)~chip->imr);
    if (wanted == INPUTS)
        return -1;
    uint8_t in_service = chip->isr;
    // Special mask mode: masked inputs in service hold nobody off.
    if (chip->special_mask)
        in_service &= (uint8_t)~chip->imr;
    // Special fully nested: a slave in service may interrupt itself with a higher one.
    if (chip->special_fully_nested && !chip->slave)
        in_service &= (uint8_t)~BIT(CASCADE);
    return wanted < highest_rank(chip, in_service) ? (int)input_of_rank(chip, wanted) : -1;
}

static void chip_set_line(struct i8259 *chip, unsigned input, bool level)
{
    uint8_t bit = (uint8_t)BIT(input);
    bool by_level = chip->icw1_level || (chip->elcr & bit);
    if (level && (by_level || !(chip->lines & bit)))
        chip->irr |= bit;
    else if (!level && by_level)
        chip->irr &= (uint8_t)~bit;
    chip->lines = level ? chip->lines | bit : chip->lines & (uint8_t)~bit;
}

static void set_cascade(struct pic *pic, bool level)
{
    chip_set_line(&pic->master, CASCADE, level);
    if (!level)
        pic->master.irr &= (uint8_t)~BIT(CASCADE);
}

static void update(struct pic *pic)
{
    set_cascade(pic, requests(&pic->slave) >= 0);
    bool intr = requests(&pic->master) >= 0;
    if (intr != pic->intr) {
        pic->intr = intr;
        pic->output(pic->output_context, intr);
    }
}

void pic_set_line(struct pic *pic, unsigned line, bool level)
{
    if (line >= 2 * INPUTS || line == CASCADE)
        return;
    pthread_mutex_lock(&pic->lock);
    chip_set_line(line < INPUTS ? &pic->master : &pic->slave, line % INPUTS, level);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

bool pic_pending(void *context)
{
    struct pic *pic = context;
    pthread_mutex_lock(&pic->lock);
    bool intr = pic->intr;
    pthread_mutex_unlock(&pic->lock);
    return intr;
}

static void end_of_interrupt(struct i8259 *chip, unsigned input, bool rotate)
{
    chip->isr &= (uint8_t)~BIT(input);
    if (rotate)
        chip->lowest = (uint8_t)input;
}

// The acknowledge cycle on one chip: the input that goes into service, or SPURIOUS, which does not.
static unsigned chip_acknowledge(struct i8259 *chip)
{
    int input = requests(chip);
    if (input < 0)
        return SPURIOUS;
    uint8_t bit = (uint8_t)BIT(input);
    if (!(chip->icw1_level || (chip->elcr & bit)))
        chip->irr &= (uint8_t)~bit;
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest = (uint8_t)input;
    return (unsigned)input;
}

int pic_acknowledge(void *context)
{
    struct pic *pic = context;
    int vector = -1;
    pthread_mutex_lock(&pic->lock);
    if (pic->intr) {
        unsigned input = chip_acknowledge(&pic->master);
        struct i8259 *answers = &pic->master;
        if (input == CASCADE) {
            answers = &pic->slave;
            input = chip_acknowledge(&pic->slave);
            // The slave's request falls with the acknowledgement and may rise again at once.
            set_cascade(pic, false);
        }
        vector = answers->vector_base | (int)input;
        update(pic);
    }
    pthread_mutex_unlock(&pic->lock);
    return vector;
}

static void write_icw1(struct i8259 *chip, uint8_t value)
{
    chip->irr = chip->isr = chip->imr = 0;
    chip->lowest = INPUTS - 1;
    chip->read_isr = chip->poll = chip->special_mask = false;
    chip->auto_eoi = chip->rotate_on_auto_eoi = chip->special_fully_nested = false;
    chip->wants_icw4 = value & ICW1_ICW4;
    chip->icw1_level = value & ICW1_LEVEL;
    chip->step = STEP_ICW2;
    // The edge sense is reset, so a line that stays high makes no request; level lines request
    // again.
    uint8_t by_level = chip->icw1_level ? 0xFF : chip->elcr;
    chip->irr = chip->lines & by_level;
}

static void write_ocw2(struct i8259 *chip, uint8_t value)
{
    unsigned input = value % INPUTS;
    bool rotate = value & OCW2_ROTATE;
    if (value & OCW2_EOI) {
        if (!(value & OCW2_SPECIFIC)) {
            uint8_t candidates = chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr;
            unsigned best = highest_rank(chip, candidates);
            if (best == INPUTS)
                return;
            input = input_of_rank(chip, best);
        }
        end_of_interrupt(chip, input, rotate);
    } else if (value & OCW2_SPECIFIC) {
        if (rotate) // set priority; 0x40 alone is no operation
            chip->lowest = (uint8_t)input;
    } else {
        chip->rotate_on_auto_eoi = rotate;
    }
}

static void write_ocw3(struct i8259 *chip, uint8_t value)
{
    if (value & OCW3_POLL)
        chip->poll = true;
    if (value & OCW3_READ)
        chip->read_isr = value & OCW3_READ_ISR;
    if (value & OCW3_ESMM)
        chip->special_mask = value & OCW3_SMM;
}

static void write_data(struct i8259 *chip, uint8_t value)
{
    switch ((enum step)chip->step) {
    case STEP_READY:
    case STEP_COUNT:
        chip->imr = value;
        break;
    case STEP_ICW2:
        chip->vector_base = value & 0xF8;
        // A PC's pair is always cascaded; ICW1's SINGLE only says that ICW3 will not come.
        chip->step = STEP_ICW3;
        break;
    case STEP_ICW3:
        chip->step = chip->wants_icw4 ? STEP_ICW4 : STEP_READY;
        break;
    case STEP_ICW4:
        chip->auto_eoi = value & ICW4_AUTO_EOI;
        chip->special_fully_nested = value & ICW4_SFNM;
        chip->step = STEP_READY;
        break;
    }
}

static void chip_write(struct i8259 *chip, uint64_t offset, uint8_t value)
{
    if (offset == 1)
        write_data(chip, value);
    else if (value & ICW1)
        write_icw1(chip, value);
    else if (value & OCW3)
        write_ocw3(chip, value);
    else
        write_ocw2(chip, value);
}

static uint8_t chip_read(struct i8259 *chip, uint64_t offset)
{
    if (chip->poll) { // a read stands for the acknowledge cycle
        chip->poll = false;
        if (requests(chip) < 0)
            return 0;
        return (uint8_t)(0x80 | chip_acknowledge(chip));
    }
    if (offset == 1)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip->irr;
}

static uint64_t chip_port_read(struct pic *pic, struct i8259 *chip, uint64_t offset)
{
    pthread_mutex_lock(&pic->lock);
    bool polled = chip->poll;
    uint8_t value = chip_read(chip, offset);
    if (polled && chip->slave)
        set_cascade(pic, false); // as in the acknowledge cycle
    update(pic);
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void chip_port_write(struct pic *pic, struct i8259 *chip, uint64_t offset, uint64_t value)
{
    pthread_mutex_lock(&pic->lock);
    chip_write(chip, offset, (uint8_t)value);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static uint64_t master_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;
    return chip_port_read(pic, &pic->master, offset);
}

static void master_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *pic = device;
    chip_port_write(pic, &pic->master, offset, value);
}

static uint64_t slave_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;
    return chip_port_read(pic, &pic->slave, offset);
}

static void slave_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *pic = device;
    chip_port_write(pic, &pic->slave, offset, value);
}

static uint64_t elcr_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;
    pthread_mutex_lock(&pic->lock);
    uint8_t value = offset ? pic->slave.elcr : pic->master.elcr;
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void elcr_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *pic = device;
    pthread_mutex_lock(&pic->lock);
    struct i8259 *chip = offset ? &pic->slave : &pic->master;
    chip->elcr = (uint8_t)value & chip->elcr_mask;
    chip->irr |= chip->lines & chip->elcr;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static const struct bus_ops master_ops = {master_read, master_write, 1, 1};
static const struct bus_ops slave_ops = {slave_read, slave_write, 1, 1};
static const struct bus_ops elcr_ops = {elcr_read, elcr_write, 1, 1};

#define CHIP_FIELDS(which)                                                                         \
    FIELD_U8(struct pic, which.lines), FIELD_U8(struct pic, which.irr),                            \
        FIELD_U8(struct pic, which.isr), FIELD_U8(struct pic, which.imr),                          \
        FIELD_U8(struct pic, which.elcr), FIELD_U8(struct pic, which.vector_base),                 \
        FIELD_U8_MAX(struct pic, which.lowest, INPUTS - 1),                                        \
        FIELD_U8_MAX(struct pic, which.step, STEP_COUNT - 1),                                      \
        FIELD_BOOL(struct pic, which.wants_icw4), FIELD_BOOL(struct pic, which.read_isr),          \
        FIELD_BOOL(struct pic, which.poll), FIELD_BOOL(struct pic, which.special_mask),            \
        FIELD_BOOL(struct pic, which.auto_eoi), FIELD_BOOL(struct pic, which.rotate_on_auto_eoi),  \
        FIELD_BOOL(struct pic, which.special_fully_nested),                                        \
        FIELD_BOOL(struct pic, which.icw1_level)

static const struct field fields[] = {
    CHIP_FIELDS(master),
    CHIP_FIELDS(slave),
    FIELD_BOOL(struct pic, intr),
};

// Everything but the levels of the lines, which belong to the devices.
static void chip_reset(struct i8259 *chip)
{
    chip->irr = chip->isr = chip->imr = chip->elcr = chip->vector_base = 0;
    chip->lowest = INPUTS - 1;
    chip->step = STEP_READY;
    chip->wants_icw4 = chip->read_isr = chip->poll = chip->special_mask = chip->auto_eoi = false;
    chip->rotate_on_auto_eoi = chip->special_fully_nested = chip->icw1_level = false;
}

static void pic_reset(void *device)
{
    struct pic *pic = device;
    pthread_mutex_lock(&pic->lock);
    chip_reset(&pic->master);
    chip_reset(&pic->slave);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static int pic_check(const void *device, struct err *err)
{
    const struct pic *pic = device;
    const struct i8259 *chips[] = {&pic->master, &pic->slave};
    for (unsigned i = 0; i < ARRAY_LENGTH(chips); i++)
        if (chips[i]->vector_base & 7 || chips[i]->elcr & (uint8_t)~chips[i]->elcr_mask)
            return err_set(err, ERR_INPUT, "impossible vector base or ELCR");
    return 0;
}

static void pic_loaded(void *device)
{
    struct pic *pic = device;
    pthread_mutex_lock(&pic->lock);
    update(pic);
    pic->output(pic->output_context, pic->intr);
    pthread_mutex_unlock(&pic->lock);
}

void pic_get_registers(struct pic *pic, unsigned which, struct pic_registers *registers)
{
    pthread_mutex_lock(&pic->lock);
    const struct i8259 *chip = which ? &pic->slave : &pic->master;
    *registers = (struct pic_registers){
        .lines = chip->lines,
        .irr = chip->irr,
        .isr = chip->isr,
        .imr = chip->imr,
        .elcr = chip->elcr,
        .elcr_mask = chip->elcr_mask,
        .vector_base = chip->vector_base,
        .lowest = chip->lowest,
        .step = chip->step,
        .wants_icw4 = chip->wants_icw4,
        .read_isr = chip->read_isr,
        .poll = chip->poll,
        .special_mask = chip->special_mask,
        .auto_eoi = chip->auto_eoi,
        .rotate_on_auto_eoi = chip->rotate_on_auto_eoi,
        .special_fully_nested = chip->special_fully_nested,
    };
    pthread_mutex_unlock(&pic->lock);
}

void pic_set_registers(struct pic *pic, unsigned which, const struct pic_registers *registers)
{
    pthread_mutex_lock(&pic->lock);
    struct i8259 *chip = which ? &pic->slave : &pic->master;
    chip->lines = registers->lines;
    chip->irr = registers->irr;
    chip->isr = registers->isr;
    chip->imr = registers->imr;
    chip->elcr = registers->elcr & chip->elcr_mask;
    chip->vector_base = registers->vector_base & 0xF8;
    chip->lowest = registers->lowest % INPUTS;
    chip->step = registers->step % STEP_COUNT;
    chip->wants_icw4 = registers->wants_icw4;
    chip->read_isr = registers->read_isr;
    chip->poll = registers->poll;
    chip->special_mask = registers->special_mask;
    chip->auto_eoi = registers->auto_eoi;
    chip->rotate_on_auto_eoi = registers->rotate_on_auto_eoi;
    chip->special_fully_nested = registers->special_fully_nested;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static const struct device_ops pic_device_ops = {
    .kind = "pic",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = pic_reset,
    .check = pic_check,
    .loaded = pic_loaded,
};

struct pic *pic_create(struct bus *ports, pic_output *output, void *context, struct err *err)
{
    struct pic *pic = calloc(1, sizeof(*pic));
    if (!pic) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&pic->lock, NULL);
    pic->device = (struct device){.ops = &pic_device_ops, .name = "pic", .self = pic};
    pic->ports = ports;
    pic->output = output;
    pic->output_context = context;
    chip_reset(&pic->master);
    chip_reset(&pic->slave);
    pic->master.elcr_mask = MASTER_ELCR;
    pic->slave.elcr_mask = SLAVE_ELCR;
    pic->slave.slave = true;
    pic->master_range =
        (struct bus_range){"pic-master", MASTER_PORT, 2, &master_ops, pic, false, 0};
    pic->slave_range = (struct bus_range){"pic-slave", SLAVE_PORT, 2, &slave_ops, pic, false, 0};
    pic->elcr_range = (struct bus_range){"pic-elcr", ELCR_PORT, 2, &elcr_ops, pic, false, 0};
    if (bus_add(ports, &pic->master_range, err) || bus_add(ports, &pic->slave_range, err) ||
        bus_add(ports, &pic->elcr_range, err)) {
        pic_destroy(pic);
        return NULL;
    }
    return pic;
}

void pic_destroy(struct pic *pic)
{
    if (!pic)
        return;
    bus_remove(pic->ports, &pic->master_range);
    bus_remove(pic->ports, &pic->slave_range);
    bus_remove(pic->ports, &pic->elcr_range);
    pthread_mutex_destroy(&pic->lock);
    free(pic);
}

struct device *pic_device(struct pic *pic)
{
    return &pic->device;
}
