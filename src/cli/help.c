// SPDX-License-Identifier: Apache-2.0
#include "cli/help.h"

const char help_welcome[] =
    "wirt runs virtual machines, with and without hardware virtualization.\n"
    "\n"
    "Boot a kernel with an initial RAM disk and talk to it on this terminal:\n"
    "  wirt run --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n"
    "Boot a disk through its own boot loader:\n"
    "  wirt run --disk debian.img --memory 1G --net user\n"
    "\n"
    "Commands:\n";

const char help_run[] =
    "Usage: wirt run [OPTION]…\n"
    "\n"
    "Runs one virtual machine in the foreground: no daemon, no configuration, no root.\n"
    "Without --kernel the machine boots from its first disk by PC firmware.\n"
    "\n"
    "What starts:\n"
    "  --kernel FILE          bzImage, ELF with a PVH note, or multiboot 1 ELF\n"
    "  --initrd FILE          initial RAM disk; again for more. Multiboot: a module, \"FILE "
    "words\"\n"
    "  --append TEXT          kernel command line\n"
    "  --firmware FILE        PC firmware for machines without --kernel (SeaBIOS)\n"
    "The machine:\n"
    "  --cpus N               vCPUs, 1 to 8 (1)\n"
    "  --memory SIZE          RAM, with suffix K, M, G or T, else MiB (512M)\n"
    "  --cpu MODEL[,±FEATURE] host, x86-64, x86-64-v2 or x86-64-v3 (host)\n"
    "  --accel HOW            auto, kvm, engine or interpreter (auto)\n"
    "  --disk FILE[,readonly][,serial=S][,format=F]\n"
    "                         a disk on virtio-blk; again for more. F: raw, qcow2,\n"
    "                         vmdk; vhdx and vdi with readonly. Else the suffix tells.\n"
    "                         FILE may be nbd://…, iscsi://… or nfs://… (man wirt-io)\n"
    "       [,bandwidth=SIZE][,iops=N][,bandwidth-burst=SIZE][,iops-burst=N]\n"
    "                         limits a second, and what is free at once after a rest\n"
    "       [,on-error=report|stop]\n"
    "                         when the storage fails: the guest is told (report), or the\n"
    "                         machine pauses and tells; resume tries again\n"
    "  --net user[,forward=tcp:HOSTPORT:GUESTPORT]… | tap=IFNAME | none\n"
    "                         a network card on virtio-net; again for more (none)\n"
    "Talking to it:\n"
    "  --console stdio | file=PATH | socket=PATH | none\n"
    "                         where the serial port leads (stdio); Ctrl-] opens a menu on a "
    "terminal\n"
    "  --control SOCKET       listen for `wirt ctl` on this Unix socket\n"
    "  --gdb SOCKET           wait there for a debugger: gdb -ex 'target remote SOCKET'\n"
    "  --trace WHAT           print exits, interrupts, faults, modes, translate, hash or\n"
    "                         states=FIRST-LAST; again for more\n"
    "How it runs:\n"
    "  --config FILE          a machine as JSON; the other options change it\n"
    "  --timeout SECONDS      stop it then, with exit status 124\n"
    "  --on-reboot restart|exit\n"
    "                         what a reset does (restart)\n"
    "  --deterministic        time from retired instructions: two runs are equal\n"
    "  --stats [--json]       print statistics at the end\n"
    "\n"
    "Exit status: 0 after power-off; (value << 1) | 1 when the guest writes to the debug exit "
    "port;\n"
    "2 for wrong words or files, 124 timeout, 30 guest panic, 32 reset or 34 triple fault with\n"
    "--on-reboot exit, 36 host failure.\n"
    "\n"
    "Example: wirt run --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --memory 1G "
    "--cpus 2\n";

const char help_doctor[] =
    "Usage: wirt doctor [--json]\n"
    "\n"
    "Tries what this host offers and tells, for each thing, what was found, what wirt\n"
    "therefore uses, what is lost, and what to change for more: KVM (a small guest proves\n"
    "it, anew each time), CPU, memory, system calls, walls of the sandbox, networks, files.\n"
    "\n"
    "Exit status: 0 when machines can run here at all, by KVM or by the engine.\n";

const char help_ctl[] =
    "Usage: wirt ctl SOCKET COMMAND [MEMBER=VALUE]…\n"
    "\n"
    "Sends a command to a machine that was started with --control SOCKET and prints the answer.\n"
    "Commands: hello status pause resume power-button reset stop statistics balloon plug unplug "
    "console\n"
    "  disks disk-snapshot disk-commit disk-stream disk-mirror disk-backup\n"
    "  jobs job-wait job-pause job-resume job-rate job-cancel job-complete\n"
    "  bitmap-create bitmap-remove bitmap-clear\n"
    "With --json the answer is printed as it came. With --wait a disk-… command answers when its\n"
    "job has ended, or is ready for job-complete.\n"
    "`console` attaches to the serial console; on a terminal Ctrl-] opens a menu that detaches\n"
    "again.\n"
    "\n"
    "Examples:\n"
    "  wirt ctl /tmp/vm.sock balloon memory=256M\n"
    "  wirt ctl /tmp/vm.sock disk-snapshot disk=disk0 file=today.qcow2\n"
    "  wirt ctl /tmp/vm.sock disk-mirror disk=disk0 file=/new/place.qcow2 rate=50M --wait\n"
    "  wirt ctl /tmp/vm.sock job-complete job=job1\n";

const char help_disk[] = "Usage: wirt disk COMMAND …\n"
                         "\n"
                         "Works on disk images. `wirt disk` alone lists its commands.\n";

const char help_init[] =
    "Usage: wirt init [--state DIR] [--admin NAME@wirt] [--password-stdin]\n"
    "\n"
    "Makes the first administrator of a node, or gives one a new password; before wirtd first\n"
    "starts, or while it runs. Asks for the password on a terminal, or reads it from standard\n"
    "input without one trailing newline.\n"
    "  --state DIR            the node's state (/var/lib/wirt; for users below their data)\n"
    "  --socket PATH          of the wirtd that runs there (STATE/wirtd.sock)\n"
    "  --admin NAME@wirt      who (root@wirt)\n"
    "\n"
    "Example: wirt init --admin root@wirt --password-stdin < password\n";

const char help_help[] = "Usage: wirt help [VERB]\n\nExplains a command.\n";

const char help_version[] = "Usage: wirt version\n\nPrints the version.\n";
