package kernel

import (
	"errors"
	"fmt"
	"slices"
)

// A Promise is an option that the finished configuration must have as it says,
// whatever the fragments say and whatever Kconfig makes of them.
type Promise struct {
	Option string   // without CONFIG_
	Value  string   // "" is off
	But    []string // variants that do not make it
	Reason string
}

// Promises are what README.md says of every kernel.
var Promises = []Promise{
	// What the host supplies and nobody needs.
	{"DMI", off, nil, "SMBIOS tables are the host's words"},
	{"X86_MPPARSE", off, nil, "MP tables are the host's words; ACPI lists the CPUs"},
	{"FW_CFG_SYSFS", off, nil, "fw_cfg is a second, unmeasured way to hand over files"},
	{"FIRMWARE_MEMMAP", off, nil, "nobody asks what the host said of memory"},
	{"ACPI_TABLE_UPGRADE", off, nil, "tables from an initrd take the place of the firmware's"},
	{"ACPI_CONFIGFS", off, nil, "root could load byte code"},
	{"ACPI_DEBUG", off, nil, "prints kernel memory"},
	{"ACPI_PROCESSOR", off, nil, "runs the host's byte code to sleep, and plugs in CPUs"},
	{"ACPI_HOTPLUG_CPU", off, nil, "the set of CPUs is measured"},
	{"ACPI_HOTPLUG_MEMORY", off, nil, "memory does not come later"},
	{"ACPI_APEI", off, nil, "error records at addresses that the host chooses"},
	{"ACPI_SPCR_TABLE", off, nil, "the console is the measured command line's"},
	{"EFIVAR_FS", off, nil, "EFI variables are the host's"},
	{"EFI_COCO_SECRET", off, nil, "SNP has no launch secrets"},
	{"PVH", off, nil, "a way to start that no launch digest covers"},
	{"XEN", off, nil, "no such host"},
	{"PSTORE", off, nil, "a crash leaves nothing with the host"},
	{"VMGENID", off, nil, "the host's word on when the guest was copied; nothing relies on it"},
	{"PVPANIC", off, nil, "tells the host of a panic through a device of its own"},
	{"HW_RANDOM", off, nil, "the host's randomness is the host's knowledge"},

	// Devices of another age, and devices that come and go.
	{"HOTPLUG_PCI", off, nil, "the devices are those that were there at boot"},
	{"PCIEPORTBUS", off, nil, "hotplug and error services of PCI Express"},
	{"MEMORY_HOTPLUG", off, nil, "memory does not come later"},
	{"VIRTIO_MMIO", off, nil, "devices named on a command line"},
	{"VIRTIO_PCI_LEGACY", off, nil, "virtio 0.9 trusts the host's layout"},
	{"VIRTIO_BALLOON", off, nil, "the host would take memory out of the guest"},
	{"VIRTIO_MEM", off, nil, "the host would add memory to the guest"},
	{"VIRTIO_INPUT", off, nil, "nobody types"},
	{"VT", off, nil, "there is no screen"},
	{"FB", off, nil, "there is no screen"},
	{"DRM", off, nil, "there is no screen"},
	{"VGA_CONSOLE", off, nil, "there is no screen"},
	{"INPUT", off, nil, "nobody types"},
	{"SERIO", off, nil, "nobody types"},
	{"USB_SUPPORT", off, nil, "no bus that takes any device"},
	{"HID_SUPPORT", off, nil, "nobody types"},
	{"SOUND", off, nil, "nobody listens"},
	{"I2C", off, nil, "no such bus"},
	{"ATA", off, nil, "a driver and its quirks for disks that nobody has"},
	{"BLK_DEV_FD", off, nil, "a floppy drive"},
	{"PARPORT", off, nil, "a parallel port"},
	{"ISA_DMA_API", off, nil, "DMA of 1981"},
	{"RTC_CLASS", off, nil, "the clock is the host's word; its floor is the build's time"},
	{"SERIAL_8250_PNP", off, nil, "serial ports at addresses that ACPI names"},
	{"HYPERV", off, []string{"cloud"}, "another hypervisor's bus"},
	{"PCI_HYPERV", off, nil, "PCI devices that come over the VM bus at any time"},
	{"HYPERV_BALLOON", off, nil, "the host would move memory"},
	{"HYPERV_UTILS", off, nil, "the host would copy files and set keys"},
	{"HYPERV_KEYBOARD", off, nil, "nobody types"},
	{"SCSI", off, []string{"cloud"}, "disks are virtio"},
	{"TCG_TPM", off, []string{"cloud"}, "the launch digest covers everything"},
	{"VSOCKETS", off, nil, "one network is enough to watch"},

	// File systems that parse what a disk says.
	{"EXT4_FS", off, nil, "disks are untrusted bytes"},
	{"VFAT_FS", off, nil, "disks are untrusted bytes"},
	{"FUSE_FS", off, nil, "virtio-fs would be a file system of the host's"},
	{"NETWORK_FILESYSTEMS", off, nil, "files of the host's"},
	{"MSDOS_PARTITION", off, nil, "raw disks have no partitions"},
	{"EFI_PARTITION", off, nil, "raw disks have no partitions"},
	{"EROFS_FS_ZIP", off, nil, "no decompressor for what is read from disks"},

	// Code and keys that come from outside of what was measured.
	{"MODULES", off, []string{"gpu"}, "what is not built in cannot be added"},
	{"MODULE_UNLOAD", off, nil, "what was loaded stays as it was measured"},
	{"MODULE_FORCE_LOAD", off, nil, "a module fits or is refused"},
	{"FW_LOADER", off, []string{"gpu"}, "no path from a device's name to a file"},
	{"FW_LOADER_USER_HELPER", off, nil, "no question to user space for firmware"},
	{"FW_UPLOAD", off, nil, "nobody updates a device"},
	{"KEYS", off, []string{"gpu"}, "no key is trusted: bytes are"},
	{"SYSTEM_TRUSTED_KEYS", off, []string{"gpu"}, "no key is trusted: bytes are"},
	{"IMA", off, nil, "IMA's keys and policies come from outside"},
	{"EVM", off, nil, "EVM's keys come from outside"},
	{"INTEGRITY", off, nil, "what runs is measured, not signed"},
	{"STATIC_USERMODEHELPER", "y", nil, "the kernel starts no program but /init"},
	{"STATIC_USERMODEHELPER_PATH", `""`, nil, "the kernel starts no program but /init"},
	{"UEVENT_HELPER", off, nil, "the kernel starts no program but /init"},
	{"COREDUMP", off, nil, "memory of a process stays in memory"},
	{"BINFMT_SCRIPT", off, nil, "programs are static ELF files"},
	{"BINFMT_MISC", off, nil, "programs are static ELF files"},

	// Ways to the kernel's memory, and to another kernel.
	{"DEVMEM", off, nil, "stricter than STRICT_DEVMEM: there is no such device"},
	{"DEVPORT", off, nil, "no I/O ports for user space"},
	{"PROC_KCORE", off, nil, "no image of the kernel's memory"},
	{"KEXEC", off, nil, "another kernel would not be measured"},
	{"KEXEC_FILE", off, nil, "another kernel would not be measured"},
	{"CRASH_DUMP", off, nil, "no copy of memory after a crash"},
	{"HIBERNATION", off, nil, "no copy of memory on a disk"},
	{"SUSPEND", off, nil, "a guest does not sleep"},
	{"SWAP", off, nil, "memory does not leave the guest"},
	{"DEBUG_FS", off, nil, "a folder full of holes"},
	{"X86_MSR", off, nil, "no model-specific registers for user space"},
	{"X86_IOPL_IOPERM", off, nil, "no I/O ports for user space"},
	{"KPROBES", off, nil, "no code is patched at run time by request"},
	{"FTRACE", off, nil, "no code is patched at run time by request"},
	{"PROFILING", off, nil, "nobody measures here"},
	{"KALLSYMS_ALL", off, nil, "names of data are not needed"},
	{"MAGIC_SYSRQ", off, nil, "commands from the console, which is the host's"},
	{"LIVEPATCH", off, nil, "what was measured is what runs"},

	// System calls that agents do not need and exploits do.
	{"IO_URING", off, nil, "a second set of system calls"},
	{"BPF_SYSCALL", off, nil, "no BPF for anybody, the unprivileged included"},
	{"USERFAULTFD", off, nil, "holds the kernel still in the middle of a copy"},
	{"AIO", off, nil, "replaced, and little looked at"},
	{"MODIFY_LDT_SYSCALL", off, nil, "16-bit programs"},
	{"IA32_EMULATION", off, nil, "a second set of system calls"},
	{"X86_X32_ABI", off, nil, "a third set of system calls"},
	{"LEGACY_TIOCSTI", off, nil, "typing into another's terminal"},
	{"LDISC_AUTOLOAD", off, nil, "line disciplines by request"},
	{"CHECKPOINT_RESTORE", off, nil, "a process's insides for another one"},
	{"CROSS_MEMORY_ATTACH", off, nil, "a process's memory for another one"},
	{"PROC_PAGE_MONITOR", off, nil, "physical addresses"},
	{"COMPAT_BRK", off, nil, "a heap at a known place"},
	{"IPV6", off, nil, "router advertisements from the host"},
	{"NETFILTER", off, nil, "nothing is forwarded, so nothing is filtered"},

	// What makes a hole harder to use.
	{"CPU_MITIGATIONS", "y", nil, "faults of CPUs"},
	{"MITIGATION_PAGE_TABLE_ISOLATION", "y", nil, "Meltdown"},
	{"MITIGATION_RETPOLINE", "y", nil, "Spectre v2"},
	{"MITIGATION_RETHUNK", "y", nil, "return predictions"},
	{"MITIGATION_UNRET_ENTRY", "y", nil, "Retbleed, AMD"},
	{"MITIGATION_IBPB_ENTRY", "y", nil, "Retbleed, AMD"},
	{"MITIGATION_SRSO", "y", nil, "Inception"},
	{"MITIGATION_SLS", "y", nil, "straight-line speculation"},
	{"MITIGATION_SPECTRE_V1", "y", nil, "Spectre v1"},
	{"MITIGATION_SPECTRE_V2", "y", nil, "Spectre v2"},
	{"MITIGATION_SPECTRE_BHI", "y", nil, "branch history injection"},
	{"MITIGATION_SSB", "y", nil, "speculative store bypass"},
	{"MITIGATION_TSA", "y", nil, "transient scheduler attacks, AMD"},
	{"INIT_ON_ALLOC_DEFAULT_ON", "y", nil, "nothing of a former owner in fresh memory"},
	{"INIT_STACK_ALL_ZERO", "y", nil, "nothing of a former call on the stack"},
	{"ZERO_CALL_USED_REGS", "y", nil, "fewer gadgets"},
	{"SLAB_FREELIST_RANDOM", "y", nil, "heap layout cannot be guessed"},
	{"SLAB_FREELIST_HARDENED", "y", nil, "free lists cannot be forged"},
	{"SLAB_BUCKETS", "y", nil, "objects of user-chosen size lie apart"},
	{"SLAB_MERGE_DEFAULT", off, nil, "caches stay apart"},
	{"RANDOM_KMALLOC_CACHES", "y", nil, "heap layout cannot be guessed"},
	{"SHUFFLE_PAGE_ALLOCATOR", "y", nil, "page layout cannot be guessed"},
	{"HARDENED_USERCOPY", "y", nil, "copies to user space stay inside of an object"},
	{"FORTIFY_SOURCE", "y", nil, "copies stay inside of their buffer"},
	{"STACKPROTECTOR_STRONG", "y", nil, "overflows are seen"},
	{"VMAP_STACK", "y", nil, "overflows are seen"},
	{"RANDOMIZE_BASE", "y", nil, "the kernel's place cannot be guessed"},
	{"RANDOMIZE_MEMORY", "y", nil, "the place of its memory neither"},
	{"RANDOMIZE_KSTACK_OFFSET_DEFAULT", "y", nil, "nor that of a stack frame"},
	{"ARCH_MMAP_RND_BITS", "32", nil, "nor that of a program's memory"},
	{"DEFAULT_MMAP_MIN_ADDR", "65536", nil, "a null pointer leads nowhere"},
	{"STRICT_KERNEL_RWX", "y", nil, "code is not written, data is not run"},
	{"STRICT_MODULE_RWX", "y", []string{"cpu", "cloud", "single"}, "code is not written, data is not run"},
	{"LIST_HARDENED", "y", nil, "broken lists are seen"},
	{"BUG_ON_DATA_CORRUPTION", "y", nil, "a broken kernel stops"},
	{"PANIC_ON_OOPS", "y", nil, "a broken kernel stops"},
	{"PANIC_TIMEOUT", "-1", nil, "and does not wait"},
	{"SECCOMP_FILTER", "y", nil, "each child may call what it needs"},
	{"SECURITY_LANDLOCK", "y", nil, "each child may open what it needs"},
	{"SECURITY_YAMA", "y", nil, "no process reads its sibling"},
	{"SECURITY_DMESG_RESTRICT", "y", nil, "the kernel's log has addresses"},
	{"SECURITY_LOCKDOWN_LSM_EARLY", "y", nil, "root is not the kernel"},
	{"LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", "y", []string{"gpu"}, "from the first instruction on"},
	{"AMD_MEM_ENCRYPT", "y", nil, "what all of this is for"},
	{"SEV_GUEST", "y", nil, "reports"},
	{"INITRAMFS_FORCE", "y", []string{"cpu", "cloud", "gpu"}, "a boot loader's initrd is left alone"},
	{"CMDLINE_OVERRIDE", "y", []string{"cpu", "cloud", "gpu"}, "a boot loader's command line is left alone"},
}

// Keep reports every promise that the finished config of a variant breaks.
func Keep(variant string, config []byte) error {
	have, err := parseConfig(config)
	if err != nil {
		return err
	}
	var broken []error
	for _, p := range Promises {
		if got := have["CONFIG_"+p.Option]; got != p.Value && !slices.Contains(p.But, variant) {
			broken = append(broken, fmt.Errorf("kernel config: %s is %s and must be %s: %s", p.Option, word(got), word(p.Value), p.Reason))
		}
	}
	return errors.Join(broken...)
}
