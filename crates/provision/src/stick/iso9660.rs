//! The first sectors of a medium as ISO 9660 with a boot catalogue of El Torito: firmware and tools for
//! optical media then find the EFI system partition. They are behind the partition table, which the system
//! area holds.
//!
//! The volume has no files: everything is in partitions.

/// Bytes of a sector of ISO 9660.
pub(super) const SECTOR: u64 = 2048;
const SECTOR_BYTES: u16 = 2048;
/// The first sector behind the system area.
pub(super) const FIRST: u64 = 16;
/// Sectors, counted from the first one.
const CATALOGUE: u32 = 19;
const ROOT: u32 = 20;
const LITTLE_TABLE: u32 = 21;
const BIG_TABLE: u32 = 22;
/// Bytes of a path table with the root alone.
const TABLE_BYTES: u32 = 10;
const IDENTIFIER: &[u8] = b"CD001";
const VOLUME: &str = "EDGEWRIGHT";

/// The sectors from [`FIRST`], for a medium of `length` bytes whose EFI system partition begins at `esp`.
pub(super) fn sectors(length: u64, esp: u64) -> Vec<u8> {
    let sectors = [
        primary(u32::try_from(length / SECTOR).unwrap_or(u32::MAX)),
        boot_record(),
        descriptor(255),
        catalogue(u32::try_from(esp / SECTOR).unwrap_or(u32::MAX)),
        [directory(0), directory(1)].concat(),
        path_table(ROOT.to_le_bytes(), 1_u16.to_le_bytes()),
        path_table(ROOT.to_be_bytes(), 1_u16.to_be_bytes()),
    ];
    sectors.into_iter().flat_map(padded).collect()
}

fn padded(mut sector: Vec<u8>) -> Vec<u8> {
    sector.resize(usize::from(SECTOR_BYTES), 0);
    sector
}

/// The head of a volume descriptor.
fn descriptor(kind: u8) -> Vec<u8> {
    [&[kind], IDENTIFIER, &[1, 0]].concat()
}

/// A number in both byte orders.
fn both32(number: u32) -> [u8; 8] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], little[2], little[3], big[0], big[1], big[2], big[3]]
}

fn both16(number: u16) -> [u8; 4] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

/// The primary volume descriptor (ECMA-119, 8.4).
fn primary(length: u32) -> Vec<u8> {
    let text = |text: &str, width: usize| format!("{text:<width$}").into_bytes();
    // Sixteen digits and an offset: no date.
    let no_date = [text("0000000000000000", 16), vec![0]].concat();
    let mut all = [descriptor(1), text("", 32), text(VOLUME, 32), vec![0; 8]].concat();
    all.extend(both32(length));
    all.extend([0; 32]);
    all.extend([both16(1), both16(1), both16(SECTOR_BYTES)].concat());
    all.extend(both32(TABLE_BYTES));
    all.extend([LITTLE_TABLE.to_le_bytes(), [0; 4], BIG_TABLE.to_be_bytes(), [0; 4]].concat());
    all.extend(directory(0));
    all.extend([text("", 128), text("", 128), text("", 128), text(VOLUME, 128)].concat());
    all.extend(text("", 3 * 37));
    all.extend([no_date.clone(), no_date.clone(), no_date.clone(), no_date].concat());
    all.extend([1, 0]);
    all
}

/// The boot record of El Torito.
fn boot_record() -> Vec<u8> {
    let mut all = descriptor(0);
    all.truncate(7);
    all.extend(b"EL TORITO SPECIFICATION");
    all.resize(71, 0);
    all.extend(CATALOGUE.to_le_bytes());
    all
}

/// The boot catalogue: one image for UEFI, without emulation. Its length of 0 is "to the end", because 16
/// bits hold no more than 32 MiB.
fn catalogue(esp: u32) -> Vec<u8> {
    const EFI: u8 = 0xef;
    const BOOTABLE: u8 = 0x88;
    let mut validation = [0; 32];
    (validation[0], validation[1], validation[30], validation[31]) = (1, EFI, 0x55, 0xaa);
    let words = validation.as_chunks::<2>().0;
    let sum = words.iter().fold(0_u16, |sum, word| sum.wrapping_add(u16::from_le_bytes(*word)));
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    let mut entry = [0; 32];
    entry[0] = BOOTABLE;
    entry[8..12].copy_from_slice(&esp.to_le_bytes());
    [validation, entry].concat()
}

/// The root's record of itself (0) or of its parent (1), which is the root, too (ECMA-119, 9.1).
fn directory(name: u8) -> Vec<u8> {
    const FOLDER: u8 = 2;
    // The first day of 1970.
    let date = [70, 1, 1, 0, 0, 0, 0];
    let mut all = vec![34, 0];
    all.extend([both32(ROOT), both32(SECTOR_BYTES.into())].concat());
    all.extend(date);
    all.extend([FOLDER, 0, 0]);
    all.extend(both16(1));
    all.extend([1, name]);
    all
}

fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0], &root[..], &parent[..], &[0, 0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_standards_have_them() {
        let all = sectors(64 * SECTOR, 1 << 20);
        assert_eq!(all.len() as u64, 7 * SECTOR);
        let sector = |number: usize| all.chunks(usize::from(SECTOR_BYTES)).nth(number - 16).unwrap();
        let primary = sector(16);
        assert_eq!((&primary[..7], &primary[40..50]), (&b"\x01CD001\x01"[..], VOLUME.as_bytes()));
        assert_eq!((&primary[80..88], &primary[128..132]), (&both32(64)[..], &both16(2048)[..]));
        assert_eq!((primary[156], &primary[158..166], primary[881]), (34, &both32(ROOT)[..], 1));
        assert_eq!(&primary[140..144], &LITTLE_TABLE.to_le_bytes());
        assert_eq!(&sector(17)[7..30], b"EL TORITO SPECIFICATION");
        assert_eq!(&sector(17)[71..75], &CATALOGUE.to_le_bytes());
        assert_eq!(sector(18)[0], 255);
        let catalogue = sector(CATALOGUE as usize);
        let words = catalogue[..32].as_chunks::<2>().0;
        let sum = words.iter().fold(0_u16, |sum, word| sum.wrapping_add(u16::from_le_bytes(*word)));
        assert_eq!((sum, catalogue[1], catalogue[32]), (0, 0xef, 0x88));
        assert_eq!(&catalogue[40..44], &512_u32.to_le_bytes());
        assert_eq!(sector(ROOT as usize)[34], 34);
    }
}
