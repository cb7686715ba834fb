//! The order of a machine without a channel: a disk with one file, as KubeVirt makes of a Secret.
//!
//! ```text
//! edgewright-order 1 LENGTH SETTLING BOOT\n   numbers; the limits in seconds
//! ORDER                                       LENGTH bytes
//! edgewright-order-end
//! ```
//!
//! A file of ISO 9660 is in one piece and begins at a sector (ECMA-119, 6.4), so it is found by its first
//! line: the guest needs no file system for it.

use std::time::Duration;

/// The serial number of the disk with the order.
pub const ORDER_DISK: &str = "edgewright-order";
/// The kernel argument by which the first process waits for that disk.
pub const ORDER_ARGUMENT: &str = "edgewright.order=disk";
/// Where the order is in a guest.
pub const ORDER_FILE: &str = "/run/edgewright/order.json";
/// The largest disk that is searched, in bytes: a Secret holds one MiB.
pub(crate) const MAX_DISK_BYTES: u64 = 16 * 1024 * 1024;

const SECTOR: usize = 2048;
const BEGIN: &[u8] = b"edgewright-order 1 ";
const END: &[u8] = b"\nedgewright-order-end\n";
/// The longest first line, in bytes.
const MAX_LINE_BYTES: usize = 128;

/// How long the boot of a machine is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootLimits {
    /// Before the checks begin.
    pub settling: Duration,
    /// In all.
    pub boot: Duration,
}

/// The content of the file for the order of the check runner.
pub fn pack(order: &[u8], limits: BootLimits) -> Vec<u8> {
    let (settling, boot) = (limits.settling.as_secs(), limits.boot.as_secs());
    let mut file = BEGIN.to_vec();
    file.extend_from_slice(format!("{} {settling} {boot}\n", order.len()).as_bytes());
    file.extend_from_slice(order);
    file.extend_from_slice(END);
    file
}

/// The order on a disk; none if it is not there or cut off.
pub fn find(disk: &[u8]) -> Option<(&[u8], BootLimits)> {
    disk.chunks(SECTOR).enumerate().find_map(|(sector, bytes)| {
        let first = bytes.strip_prefix(BEGIN)?;
        let line = first.get(..first.iter().take(MAX_LINE_BYTES).position(|&byte| byte == b'\n')?)?;
        let mut numbers = str::from_utf8(line).ok()?.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (length, settling, boot) = (next()?, next()?, next()?);
        let begin = sector * SECTOR + BEGIN.len() + line.len() + 1;
        let (order, rest) = disk.get(begin..)?.split_at_checked(usize::try_from(length).ok()?)?;
        let limits = BootLimits { settling: Duration::from_secs(settling), boot: Duration::from_secs(boot) };
        rest.starts_with(END).then_some((order, limits))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BootLimits =
        BootLimits { settling: Duration::from_secs(20), boot: Duration::from_secs(450) };

    proptest! {
        #[test]
        fn an_order_is_found_on_a_disk(
            order in proptest::collection::vec(any::<u8>(), 0..5000), before in 0..20_usize, cut in 0..6000_usize,
        ) {
            let mut disk = vec![7; before * SECTOR];
            disk.extend(pack(&order, LIMITS));
            prop_assert_eq!(find(&disk), Some((order.as_slice(), LIMITS)));
            let end = disk.len();
            disk.resize(end + SECTOR, 0);
            prop_assert_eq!(find(&disk), Some((order.as_slice(), LIMITS)));
            disk.truncate(end.saturating_sub(cut + 1));
            prop_assert_eq!(find(&disk), None);
        }

        #[test]
        fn other_disks_have_none(disk in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(find(&disk), None);
        }
    }

    #[test]
    fn malformed_first_lines_are_no_order() {
        for line in ["x 1 1\n", "3 1\n", "99999999999999999999 1 1\n", "3 1 1", "4 1 1\n"] {
            let disk = [BEGIN, line.as_bytes(), b"abc", END].concat();
            assert_eq!(find(&disk), None, "{line}");
        }
    }
}
