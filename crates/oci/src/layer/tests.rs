use super::*;
use proptest::prelude::*;

fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn read_back(layer: &Layer) -> Vec<(Entry, Vec<u8>)> {
    let blob = std::fs::File::open(&layer.path).unwrap();
    let mut found = Vec::new();
    read_entries(decompress(blob, media::LAYER_ZSTD).unwrap(), |entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(LayerError::Read)?;
        found.push((entry, bytes));
        Ok(())
    })
    .unwrap();
    found
}

fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Link),
        Just(Kind::HardLink),
        Just(Kind::Fifo)
    ];
    let path = proptest::collection::vec("[a-zä]{1,60}", 1..6).prop_map(|parts| parts.join("/"));
    let xattrs = proptest::collection::btree_map("(user|security)\\.[a-z]{1,8}", any::<Vec<u8>>(), 0..3);
    let one = (path.clone(), kind, 0_u32..0o10000, any::<(u32, u32)>(), 0..2_000_000_000_u64, path, xattrs);
    let one = (one, proptest::collection::vec(any::<u8>(), 0..2000));
    let described = one.prop_map(|((path, kind, mode, owner, time, link, xattrs), content)| {
        let mut entry = Entry::new(path, kind, mode);
        (entry.user, entry.group, entry.time) = (owner.0.into(), owner.1.into(), time);
        entry.xattrs = xattrs;
        let content = if kind == Kind::File { content } else { Vec::new() };
        entry.size = content.len() as u64;
        if matches!(kind, Kind::Link | Kind::HardLink) {
            entry.link = link.into_bytes();
        }
        (entry, content)
    });
    proptest::collection::vec(described, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn written_entries_are_read_back_and_written_equally(entries in entries()) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LayerWriter::create(&folder.path().join("a"), epoch()).unwrap();
        for (entry, content) in &entries {
            writer.append(entry, &mut content.as_slice()).unwrap();
        }
        let layer = writer.finish().unwrap();
        let expected: Vec<_> = entries
            .into_iter()
            .map(|(entry, content)| (Entry { time: entry.time.min(1_700_000_000), ..entry }, content))
            .collect();
        prop_assert_eq!(read_back(&layer), expected);

        let blob = std::fs::File::open(&layer.path).unwrap();
        let tar = decompress(blob, media::LAYER_ZSTD).unwrap();
        let again = write_tar(tar, &folder.path().join("b"), epoch()).unwrap();
        prop_assert_eq!(&again.diff_id, &layer.diff_id);
        prop_assert_eq!(&again.digest, &layer.digest);
        prop_assert_eq!(&again.index, &layer.index);
        let file = std::fs::read(&again.path).unwrap();
        prop_assert_eq!(Digest::of(&file), again.digest);
        prop_assert_eq!(file.len() as u64, again.size);
    }

    #[test]
    fn damaged_tars_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_entries(bytes.as_slice(), |_, _| Ok(()));
        let _ = pax::parse(&bytes);
    }
}

#[test]
fn the_same_content_in_other_tar_formats_gives_the_same_layer() {
    let long = format!("{}/file", "directory".repeat(20));
    let mut digests = Vec::new();
    for gnu in [true, false] {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in [("./plain", "a"), (long.as_str(), "b")] {
            let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_size(1);
            header.set_mode(0o644);
            header.set_mtime(1_800_000_000);
            header.set_uid(0);
            header.set_gid(0);
            if gnu {
                header.set_username("user").unwrap();
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            } else {
                builder.append_pax_extensions([("path", path.as_bytes())]).unwrap();
                builder.append_data(&mut header, "short", content.as_bytes()).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let tar = builder.into_inner().unwrap();
        let layer = write_tar(tar.as_slice(), &folder.path().join("layer"), epoch()).unwrap();
        assert_eq!(read_back(&layer)[0].0.time, 1_700_000_000);
        digests.push(layer.digest);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn paths_out_of_the_image_are_rejected() {
    let mut header = tar::Header::new_ustar();
    // A blank field counts as 0.
    header.set_size(0);
    header.as_old_mut().name[..8].copy_from_slice(b"a/../../");
    header.set_cksum();
    let error = read_entries(header.as_bytes().as_slice(), |_, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "invalid tar entry `a/../../`: a path out of the image");
}

#[test]
fn a_full_disk_is_an_error_not_a_panic() {
    let Ok(mut writer) = LayerWriter::create(Path::new("/dev/full"), epoch()) else { return };
    let mut noise = 1_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_be_bytes()[0]
    })
    .take(3_000_000)
    .collect();
    let mut result = Ok(());
    for _ in 0..8 {
        let entry = Entry { size: content.len() as u64, ..Entry::new("x", Kind::File, 0o644) };
        result = result.and_then(|()| writer.append(&entry, &mut content.as_slice()));
    }
    let error = result.and_then(|()| writer.finish().map(drop)).unwrap_err();
    assert_eq!(error.to_string(), "cannot write the layer /dev/full");
}

/// A stream of equal header blocks, as long as wanted.
struct Headers {
    block: [u8; 512],
    left: u64,
    at: usize,
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let length = buffer.len().min(512 - self.at);
        buffer[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at = (self.at + length) % 512;
        self.left -= u64::from(self.at == 0);
        Ok(length)
    }
}

fn header(kind: tar::EntryType, size: u64) -> [u8; 512] {
    let mut header = tar::Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

/// Compressed, each of these is a few kilobytes.
#[test]
fn archives_beyond_the_limits_are_rejected() {
    use tar::EntryType;
    let reject = |first: &[u8], block: [u8; 512], blocks: u64| {
        let tar = first.chain(Headers { block, left: blocks, at: 0 });
        let error = tarball::read_at_most(1000, tar, |_, _| Ok(())).unwrap_err();
        assert!(error.is_content(), "{error:?}");
        error.to_string()
    };
    let file = header(EntryType::Regular, 0);
    assert_eq!(reject(&[], file, 1_000_000), "invalid tar: more than 2,000,000 entries");
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let message = reject(&header(kind, 1 << 32), [b'a'; 512], 1 << 23);
        assert_eq!(message, "invalid tar: an extended header of more than 1 MiB");
    }
    let message = reject(&header(EntryType::GNUSparse, 0), file, 1);
    assert_eq!(message, "invalid tar entry `x`: a sparse file; create the archive without --sparse");

    // A name of 1 MiB is valid in a header, but not in a file system.
    let mut long = header(EntryType::GNULongName, 1 << 20).to_vec();
    long.extend_from_slice(&vec![b'a'; 1 << 20]);
    let message = reject(&long, file, 1);
    assert!(
        message.ends_with("…`: a path or a link target of more than 4096 bytes") && message.len() < 400,
        "{message}"
    );

    let mut sparse = header(EntryType::XHeader, 22).to_vec();
    sparse.extend_from_slice(b"22 GNU.sparse.major=1\n");
    sparse.resize(1024, 0);
    assert!(reject(&sparse, file, 1).contains("sparse"), "a sparse file in PAX spelling");
}
