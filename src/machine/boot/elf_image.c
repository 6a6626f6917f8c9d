// SPDX-License-Identifier: Apache-2.0
#include "machine/boot/elf_image.h"

#include <elf.h>
#include <string.h>

#include "base/bits.h"

#define NOTES_MAX 64 // that are looked at, of a segment

struct note {
    uint32_t type, length;
    uint64_t contents; // in the file
    char name[16];     // empty when it is longer
};

// A page of zeros is written at a time: memory behind a segment's file bytes.
#define ZERO_BYTES 4096u

bool elf_image_matches(const struct boot_file *file)
{
    uint8_t magic[SELFMAG];
    return file->length >= EI_NIDENT && !boot_file_read(file, 0, magic, sizeof(magic), NULL) &&
           !memcmp(magic, ELFMAG, SELFMAG);
}

static void read_segment_64(struct elf_segment *segment, const uint8_t *at)
{
    Elf64_Phdr h;
    memcpy(&h, at, sizeof(h));
    *segment =
        (struct elf_segment){h.p_type, h.p_offset, h.p_filesz, h.p_paddr, h.p_memsz, h.p_vaddr};
}

static void read_segment_32(struct elf_segment *segment, const uint8_t *at)
{
    Elf32_Phdr h;
    memcpy(&h, at, sizeof(h));
    *segment =
        (struct elf_segment){h.p_type, h.p_offset, h.p_filesz, h.p_paddr, h.p_memsz, h.p_vaddr};
}

static int read_segments(struct elf_image *image, bool wide, uint64_t table, unsigned count,
                         unsigned entry_bytes, struct err *err)
{
    const struct boot_file *file = image->file;
    if (entry_bytes != (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || count == 0 ||
        count > ELF_MAX_SEGMENTS ||
        !range_within(table, (uint64_t)count * entry_bytes, file->length))
        return err_set(err, ERR_INPUT, "its ELF program headers are malformed");
    uint8_t headers[ELF_MAX_SEGMENTS * sizeof(Elf64_Phdr)];
    if (boot_file_read(file, table, headers, (size_t)count * entry_bytes, err))
        return -1;
    image->segment_count = count;
    image->low = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        struct elf_segment *segment = &image->segments[i];
        const uint8_t *at = headers + (size_t)i * entry_bytes;
        if (wide)
            read_segment_64(segment, at);
        else
            read_segment_32(segment, at);
        if (segment->type != PT_LOAD && segment->type != PT_NOTE)
            continue;
        if (!range_within(segment->offset, segment->file_bytes, file->length))
            return err_set(err, ERR_INPUT,
                           "the file is truncated: ELF segment %u reaches beyond its %zu bytes", i,
                           file->length);
        if (segment->type == PT_NOTE)
            continue;
        uint64_t end;
        if (segment->memory_bytes < segment->file_bytes ||
            __builtin_add_overflow(segment->physical, segment->memory_bytes, &end))
            return err_set(err, ERR_INPUT, "ELF segment %u has a malformed size", i);
        if (segment->physical < image->low)
            image->low = segment->physical;
        if (end > image->high)
            image->high = end;
    }
    if (!image->high)
        return err_set(err, ERR_INPUT, "the ELF file has nothing to load");
    return 0;
}

int elf_image_parse(struct elf_image *image, const struct boot_file *file, struct err *err)
{
    *image = (struct elf_image){.file = file};
    uint8_t bytes[sizeof(Elf64_Ehdr)] = {0};
    size_t length = file->length < sizeof(bytes) ? file->length : sizeof(bytes);
    if (boot_file_read(file, 0, bytes, length, err))
        return -1;
    if (length < sizeof(Elf32_Ehdr) || bytes[EI_DATA] != ELFDATA2LSB)
        return err_set(err, ERR_INPUT, "the ELF header is truncated or not little-endian");
    if (bytes[EI_CLASS] == ELFCLASS64 && length >= sizeof(Elf64_Ehdr)) {
        Elf64_Ehdr h;
        memcpy(&h, bytes, sizeof(h));
        image->entry = h.e_entry;
        if (h.e_machine != EM_X86_64)
            return err_set(err, ERR_INPUT, "the ELF file is for machine type %u, not for x86-64",
                           h.e_machine);
        return read_segments(image, true, h.e_phoff, h.e_phnum, h.e_phentsize, err);
    }
    Elf32_Ehdr h;
    memcpy(&h, bytes, sizeof(h));
    image->entry = h.e_entry;
    if (bytes[EI_CLASS] != ELFCLASS32 || h.e_machine != EM_386)
        return err_set(err, ERR_INPUT, "the ELF file is neither for i386 nor for x86-64");
    return read_segments(image, false, h.e_phoff, h.e_phnum, h.e_phentsize, err);
}

static int put_zeros(struct guest_memory *memory, uint64_t at, uint64_t length)
{
    static const uint8_t zeros[ZERO_BYTES];
    while (length) {
        uint64_t n = length < ZERO_BYTES ? length : ZERO_BYTES;
        if (guest_memory_write(memory, gpa(at), zeros, n))
            return -1;
        at += n;
        length -= n;
    }
    return 0;
}

int elf_image_load(const struct elf_image *image, struct guest_memory *memory, struct err *err)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type != PT_LOAD || !s->memory_bytes)
            continue;
        // What the loader itself puts into low memory must not be overwritten.
        if (s->physical < MIB ||
            !range_within(s->physical, s->memory_bytes, guest_memory_low_bytes(memory)))
            return err_set(err, ERR_USAGE,
                           "it wants memory from 0x%llx to 0x%llx, which is not all RAM above 1 "
                           "MiB; try more --memory",
                           (unsigned long long)s->physical,
                           (unsigned long long)s->physical + s->memory_bytes);
        if (boot_file_load(image->file, s->offset, s->file_bytes, memory, s->physical, err))
            return -1;
        if (put_zeros(memory, s->physical + s->file_bytes, s->memory_bytes - s->file_bytes))
            return err_set(err, ERR_LIMIT, "guest memory refused ELF segment %u", i);
    }
    return 0;
}

uint64_t elf_image_physical(const struct elf_image *image, uint64_t virtual)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type == PT_LOAD && virtual >= s->virtual && virtual - s->virtual < s->memory_bytes)
            return s->physical + (virtual - s->virtual);
    }
    return virtual;
}

// One note at `at`; *next is where the next one begins. False: the rest is malformed.
static bool read_note(const struct boot_file *file, uint64_t at, uint64_t end, struct note *note,
                      uint64_t *next)
{
    Elf32_Nhdr h;
    *note = (struct note){0};
    if (!range_within(at, sizeof(h), end) || boot_file_read(file, at, &h, sizeof(h), NULL))
        return false;
    note->type = h.n_type;
    note->length = h.n_descsz;
    note->contents = at + sizeof(h) + align_up(h.n_namesz, 4);
    *next = note->contents + align_up(h.n_descsz, 4);
    if (!range_within(note->contents, note->length, end))
        return false;
    return h.n_namesz > sizeof(note->name) ||
           !boot_file_read(file, at + sizeof(h), note->name, h.n_namesz, NULL);
}

static bool find_note(const struct boot_file *file, uint64_t at, uint64_t end, const char *name,
                      uint32_t type, size_t length, struct note *note)
{
    uint64_t next;
    for (unsigned i = 0; i < NOTES_MAX && read_note(file, at, end, note, &next); i++, at = next)
        if (note->type == type && note->length >= length &&
            !strncmp(note->name, name, sizeof(note->name)))
            return true;
    return false;
}

bool elf_image_note(const struct elf_image *image, const char *name, uint32_t type, void *contents,
                    size_t length)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        struct note note;
        if (s->type == PT_NOTE &&
            find_note(image->file, s->offset, s->offset + s->file_bytes, name, type, length, &note))
            return !boot_file_read(image->file, note.contents, contents, length, NULL);
    }
    return false;
}
