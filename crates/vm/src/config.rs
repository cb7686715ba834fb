//! From a machine's description to QEMU's command line. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use edgewright_guest::{PORT, ROOT_DISK};
use serde::{Deserialize, Serialize};

use crate::acceleration::Accelerator;

/// Memory of a machine, in MiB, unless it is given.
pub const DEFAULT_MEMORY_MIB: u32 = 1024;
/// The least memory with which a kernel starts, in MiB.
pub const MIN_MEMORY_MIB: u32 = 128;
/// The most memory of a machine, in MiB.
pub const MAX_MEMORY_MIB: u32 = 65_536;
/// The most processors of a machine.
pub const MAX_CORES: u8 = 16;
/// The channel's socket in a machine's folder.
pub(crate) const GUEST_SOCKET: &str = "guest.sock";
/// The socket of QEMU's monitor in a machine's folder.
pub(crate) const MONITOR_SOCKET: &str = "monitor.sock";
/// The size of the console that is kept in a machine without a reader.
const RING_BYTES: u32 = 1024 * 1024;

/// Arguments that save time where the processor is emulated. Those of the image come later, and win.
///
/// The last two are for busy hosts. They pause a guest for longer than its kernel expects, which then takes
/// its clock or its first timer for broken. What it falls back to has left processors without timer
/// interrupts, and the guest hung.
const SPEED: &str = "mitigations=off audit=0 init_on_alloc=0 cryptomgr.notests 8250.nr_uarts=1 \
                     rcupdate.rcu_expedited=1 random.trust_cpu=on systemd.condition_needs_update=no \
                     tsc=reliable no_timer_check";
/// Arguments of every kernel: a console, and an end where there would be a wait.
const KERNEL: &str = "console=ttyS0 loglevel=4 panic=-1 systemd.show_status=auto systemd.crash_action=reboot \
                      enforcing=0";

/// The machine: what a test needs no driver for is left out, because the guest looks for all that is there.
const MACHINE: &str = "q35,usb=off,vmport=off,hpet=off,graphics=off,sata=off,smbus=off,i8042=off";
/// The emulated processor: all that programs may be compiled for, without what makes emulation slow (five
/// levels of page tables, protections of the kernel), or kernels load modules (virtualization, ciphers).
const EMULATED: &str = "max,la57=off,smap=off,smep=off,umip=off,pku=off,svm=off,aes=off,pclmulqdq=off";

/// How a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// QEMU starts the kernel; the root is read-only with a memory overlay.
    Direct,
    /// Firmware, boot loader, the image's initramfs and a disk.
    Uefi,
}

impl Profile {
    /// Its name in verdicts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "vm-direct",
            Self::Uefi => "vm-uefi",
        }
    }
}

/// What a machine may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// Memory in MiB, [`MIN_MEMORY_MIB`] to [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// Processors, 1 to [`MAX_CORES`].
    pub cores: u8,
    /// Its network.
    pub network: Network,
    /// Further disks, in order.
    pub disks: Vec<Disk>,
}

impl Default for Hardware {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
        let cores = u8::try_from(cores).unwrap_or(1);
        Self { memory_mib: DEFAULT_MEMORY_MIB, cores, network: Network::None, disks: Vec::new() }
    }
}

/// What a machine reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nothing: it has no network card.
    None,
    /// A card whose network reaches nothing but QEMU's own DHCP.
    Restricted,
    /// What this process reaches, by a user-mode network. In a sandbox that is what the sandbox permits.
    Open,
}

/// A further disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Its serial number, at most 20 letters, digits and hyphens.
    pub serial: String,
    /// What the guest may do with it.
    pub access: Access,
    /// Its format.
    pub format: DiskFormat,
}

/// The format of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskFormat {
    /// Bytes.
    #[default]
    Raw,
    /// QEMU's: what was written since another file.
    Qcow2,
}

impl Disk {
    /// A raw disk without a file.
    pub(crate) fn new(serial: &str, access: Access) -> Self {
        Self { path: PathBuf::new(), serial: serial.to_owned(), access, format: DiskFormat::Raw }
    }
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write to it; what it wrote is gone with the machine.
    Discard,
    /// Write to it.
    Write,
}

/// Where a machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    /// QEMU starts a kernel.
    Kernel { kernel: PathBuf, initrd: PathBuf, arguments: String, root: Option<PathBuf> },
    /// Firmware starts a disk.
    Firmware { code: PathBuf, variables: PathBuf, disk: Disk },
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) accelerator: Accelerator,
    pub(crate) hardware: Hardware,
    pub(crate) boot: Boot,
    /// Whether it outlives this process: its console is kept by QEMU.
    pub(crate) kept: bool,
    /// Where QEMU finds its own firmware.
    pub(crate) firmware: Vec<PathBuf>,
}

/// Arguments of the kernel of a device that lives in such a machine.
pub fn device_arguments() -> Vec<String> {
    // How a device ends a panic is its own affair: it is what brings the old image back.
    let own = KERNEL.split_whitespace().filter(|word| !word.starts_with("panic="));
    SPEED.split_whitespace().chain(own).map(str::to_owned).collect()
}

/// The kernel's command line: the image's own arguments between those of ours that it may change, and those
/// that it may not.
pub(crate) fn kernel_arguments(of_image: &[String], more: &str) -> String {
    let own = of_image.iter().filter(|word| !word.starts_with("root=") && !word.starts_with("console="));
    let mut words: Vec<&str> = SPEED.split_whitespace().collect();
    words.extend(own.map(String::as_str));
    words.extend(KERNEL.split_whitespace());
    words.extend(more.split_whitespace());
    words.join(" ")
}

impl Description {
    /// The arguments of QEMU, whose working directory is the machine's folder.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"].map(OsString::from).into();
        let mut add = |option: &str, value: OsString| words.extend([OsString::from(option), value]);
        for folder in &self.firmware {
            add("-L", folder.clone().into());
        }
        let cores = self.hardware.cores.clamp(1, MAX_CORES);
        let memory = self.hardware.memory_mib.clamp(MIN_MEMORY_MIB, MAX_MEMORY_MIB);
        add("-name", "edgewright,debug-threads=off".into());
        add("-machine", MACHINE.into());
        add("-accel", self.accelerator.qemu().into());
        add("-cpu", if self.accelerator == Accelerator::Kvm { "host" } else { EMULATED }.into());
        add("-smp", cores.to_string().into());
        add("-m", memory.to_string().into());
        let console = if self.kept {
            format!("ringbuf,id=console,size={RING_BYTES}")
        } else {
            "stdio,id=console,signal=off".into()
        };
        add("-chardev", console.into());
        add("-serial", "chardev:console".into());
        add("-chardev", format!("socket,id=guest,path={GUEST_SOCKET},server=on,wait=off").into());
        add("-device", "virtio-serial-pci".into());
        add("-device", format!("virtserialport,chardev=guest,name={PORT}").into());
        add("-qmp", format!("unix:{MONITOR_SOCKET},server=on,wait=off").into());
        match &self.hardware.network {
            Network::None => {}
            Network::Restricted => add("-nic", "user,model=virtio-net-pci,restrict=on".into()),
            Network::Open => add("-nic", "user,model=virtio-net-pci".into()),
        }
        if self.kept {
            words.extend(["-daemonize", "-pidfile", "pid"].map(OsString::from));
        }
        self.add_boot(&mut words);
        for (number, disk) in self.hardware.disks.iter().enumerate() {
            add_disk(&mut words, &format!("disk{number}"), disk);
        }
        words
    }

    fn add_boot(&self, words: &mut Vec<OsString>) {
        match &self.boot {
            Boot::Kernel { kernel, initrd, arguments, root } => {
                words.extend([
                    "-kernel".into(),
                    kernel.clone().into_os_string(),
                    "-initrd".into(),
                    initrd.clone().into_os_string(),
                    "-append".into(),
                    arguments.into(),
                ]);
                if let Some(root) = root {
                    let disk = Disk { path: root.clone(), ..Disk::new(ROOT_DISK, Access::Read) };
                    add_disk(words, "root", &disk);
                }
            }
            Boot::Firmware { code, variables, disk } => {
                for (number, path, more) in [(0, code, ",readonly=on"), (1, variables, "")] {
                    let mut value = OsString::from(format!("if=pflash,unit={number},format=raw{more},file="));
                    value.push(escaped(path));
                    words.extend(["-drive".into(), value]);
                }
                add_disk(words, "root", disk);
            }
        }
    }
}

fn add_disk(words: &mut Vec<OsString>, id: &str, disk: &Disk) {
    let access = match disk.access {
        Access::Read => ",readonly=on",
        Access::Discard => ",snapshot=on",
        Access::Write => "",
    };
    let format = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    // Speed over safety: what a machine writes ends with it, or with its host.
    let mut value =
        OsString::from(format!("if=none,id={id},format={format},cache=unsafe,discard=unmap{access},file="));
    value.push(escaped(&disk.path));
    let device = format!("virtio-blk-pci,drive={id},serial={}", disk.serial);
    words.extend(["-drive".into(), value, "-device".into(), device.into()]);
}

/// A path as a value of QEMU's options: commas are doubled.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let doubled = path
        .as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(description: &Description) -> String {
        description.arguments().iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn direct() -> Description {
        Description {
            accelerator: Accelerator::Tcg,
            hardware: Hardware { memory_mib: 1_000_000, cores: 0, network: Network::None, disks: Vec::new() },
            boot: Boot::Kernel {
                kernel: "/k".into(),
                initrd: "/i".into(),
                arguments: kernel_arguments(&["quiet".to_owned(), "root=/dev/sda".to_owned()], "a=b"),
                root: Some("/r,oot".into()),
            },
            kept: false,
            firmware: Vec::new(),
        }
    }

    #[test]
    fn a_machine_is_bounded_and_has_no_network() {
        let line = line(&direct());
        assert!(line.contains("-m 65536 ") && line.contains("-smp 1 "), "{line}");
        assert!(!line.contains("-nic") && line.contains("-nodefaults"), "{line}");
        assert!(line.contains("readonly=on,file=/r,,oot"), "{line}");
        assert!(line.contains("-accel tcg,thread=multi"), "{line}");
        assert!(line.contains("quiet console=ttyS0") && !line.contains("root=/dev/sda"), "{line}");
    }

    #[test]
    fn a_device_keeps_its_disk() {
        let disk =
            Disk { path: "/d".into(), format: DiskFormat::Qcow2, ..Disk::new(ROOT_DISK, Access::Write) };
        let boot = Boot::Firmware { code: "/c".into(), variables: "/v".into(), disk };
        let line = line(&Description { boot, ..direct() });
        assert!(line.contains("format=qcow2") && !line.contains("snapshot=on"), "{line}");
    }

    #[test]
    fn what_a_guest_writes_to_its_disk_is_discarded() {
        let disk = Disk { path: "/d".into(), ..Disk::new(ROOT_DISK, Access::Discard) };
        let boot = Boot::Firmware { code: "/c".into(), variables: "/v".into(), disk };
        let hardware = Hardware { network: Network::Restricted, ..direct().hardware };
        let line =
            line(&Description { boot, hardware, kept: true, accelerator: Accelerator::Kvm, ..direct() });
        assert!(line.contains("snapshot=on,file=/d") && line.contains("restrict=on"), "{line}");
        assert!(
            line.contains("-daemonize") && line.contains("ringbuf") && line.contains("-cpu host"),
            "{line}"
        );
    }
}
