//! What the simulated disk forgets, and when it fails.

use super::inode::SECTOR_BYTES;
use super::*;

const CRASHES: u64 = 200;

fn crashes(disk: &Simulated) -> impl Iterator<Item = Simulated> {
    (0..CRASHES).map(|seed| disk.crash(&mut Chance(seed)))
}

fn synced(bytes: &[u8]) -> (Simulated, Arc<dyn File>) {
    let disk = Simulated::new();
    let file = disk.create("file").unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync().unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (disk, _file) = synced(b"synced");
    assert!(crashes(&disk).all(|after| after.contents("file").unwrap() == b"synced"));
}

#[test]
fn unsynced_sectors_come_in_any_order_or_not_at_all() {
    let (disk, file) = synced(&[0; 4 * SECTOR_BYTES]);
    file.write_at(0, &[1; 2 * SECTOR_BYTES]).unwrap();
    file.write_at(2 * SECTOR_BYTES as u64, &[2; 2 * SECTOR_BYTES]).unwrap();
    let mut seen: Vec<Vec<u8>> = crashes(&disk)
        .map(|after| {
            let bytes = after.contents("file").unwrap();
            let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES).collect();
            assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a torn sector");
            sectors.iter().map(|sector| sector[0]).collect()
        })
        .collect();
    seen.sort();
    seen.dedup();
    // Each of the four was there or not.
    assert_eq!(seen.len(), 16, "{seen:?}");
}

#[test]
fn a_sector_that_was_written_twice_may_stand_as_after_either() {
    let (disk, file) = synced(&[0; SECTOR_BYTES]);
    file.write_at(0, b"a").unwrap();
    file.write_at(1, b"b").unwrap();
    let mut seen: Vec<Vec<u8>> = crashes(&disk).map(|after| after.contents("file").unwrap()[..2].to_vec()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [b"\0\0", b"a\0", b"ab"]);
}

#[test]
fn the_same_seed_crashes_alike() {
    let (disk, file) = synced(&[0; 64 * SECTOR_BYTES]);
    file.write_at(0, &[1; 64 * SECTOR_BYTES]).unwrap();
    for seed in 0..20 {
        let [one, other] = [seed, seed].map(|seed| disk.crash(&mut Chance(seed)).contents("file"));
        assert_eq!(one, other);
    }
}

#[test]
fn unsynced_names_are_there_or_not() {
    let (disk, _file) = synced(b"old");
    disk.create("new").unwrap();
    disk.rename("file", "renamed").unwrap();
    let mut seen: Vec<Vec<String>> = crashes(&disk).map(|after| after.names().unwrap()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [vec!["file"], vec!["file", "new"], vec!["new", "renamed"], vec!["renamed"]]);

    disk.sync().unwrap();
    assert!(crashes(&disk).all(|after| after.names().unwrap() == ["new", "renamed"]));
    disk.remove("renamed").unwrap();
    let there = crashes(&disk).filter(|after| after.contents("renamed").is_some_and(|bytes| bytes == b"old"));
    assert!((1..CRASHES as usize).contains(&there.count()));
}

#[test]
fn what_a_failed_sync_covered_is_not_synced_by_the_next() {
    let (disk, file) = synced(b"old");
    disk.fail_next_syncs(1);
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap_err();
    file.sync().unwrap();
    let mut bytes = [0; 3];
    file.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"new");
    let lost = crashes(&disk).filter(|after| after.contents("file").unwrap() == b"old").count();
    assert!((1..CRASHES as usize).contains(&lost));

    // Written again, it is synced.
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap();
    assert!(crashes(&disk).all(|after| after.contents("file").unwrap() == b"new"));
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again_after_a_removal() {
    let disk = Simulated::new();
    disk.set_capacity(Some(2 * BLOCK_BYTES as u64));
    let file = disk.create("file").unwrap();
    let error = file.write_at(0, &[1; 3 * BLOCK_BYTES]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 2 * BLOCK_BYTES as u64);
    assert_eq!(disk.free_bytes(), Some(0));
    // What has room already can be written over.
    file.write_at(0, &[2; 2 * BLOCK_BYTES]).unwrap();
    disk.remove("file").unwrap();
    assert_eq!(disk.free_bytes(), Some(0));
    drop(file);
    assert_eq!(disk.free_bytes(), Some(2 * BLOCK_BYTES as u64));
}

#[test]
fn faults_come_as_asked_for() {
    let (disk, file) = synced(b"old");
    disk.flip("file", 0, b'o' ^ b'O');
    assert_eq!(disk.contents("file").unwrap(), b"Old");
    disk.fail_writes(Some(io::ErrorKind::TimedOut));
    assert_eq!(file.write_at(0, b"new").unwrap_err().kind(), io::ErrorKind::TimedOut);
    disk.fail_writes(None);
    disk.set_read_only(true);
    assert_eq!(file.write_at(0, b"new").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(disk.create("new").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    file.sync().unwrap();
    disk.set_read_only(false);
    disk.cut_after(1);
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap_err();
    disk.sync().unwrap_err();
    assert_eq!(disk.contents("file").unwrap(), b"new");
    assert_eq!(disk.counters().writes, 2);
}
