//! The queue of reports: one file for each, named by its number. Blocking.
//!
//! A report is written before the record that counts it, so a power cut in between leaves a file with the
//! number of the next report, which replaces it. Only reports below the record's next number are sent.

use std::path::{Path, PathBuf};

use edgewright_api::device::DeviceReport;

use crate::store::{self, StoreError};

/// Maximum number of reports that wait for the server. The oldest are dropped first; the server sees the gap
/// in their numbers.
pub const MAX_QUEUED: usize = 1000;

/// The queue of reports.
#[derive(Debug, Clone)]
pub struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// Opens the queue in a folder, which is created if it is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Adds a report, durably.
    pub fn add(&self, report: &DeviceReport) -> Result<(), StoreError> {
        let numbers = self.numbers()?;
        let surplus = (numbers.len() + 1).saturating_sub(MAX_QUEUED);
        for number in &numbers[..surplus] {
            self.remove(*number)?;
        }
        // A document of strings, numbers and enums always serialises.
        store::write(&self.path(report.sequence), &serde_json::to_vec(report).unwrap_or_default())
    }

    /// The oldest reports with numbers below `next`, in order, at most `limit`. A damaged one is dropped.
    pub fn oldest(&self, next: u64, limit: usize) -> Result<Vec<DeviceReport>, StoreError> {
        let mut found = Vec::new();
        for number in self.numbers()?.into_iter().filter(|number| *number < next) {
            if found.len() == limit {
                break;
            }
            let bytes = store::read(&self.path(number))?.unwrap_or_default();
            match serde_json::from_slice(&bytes) {
                Ok(report) => found.push(report),
                Err(error) => {
                    tracing::warn!(report.sequence = number, %error, "dropped a damaged report");
                    self.remove(number)?;
                }
            }
        }
        Ok(found)
    }

    /// Removes a report that the server has, or will never take.
    pub fn remove(&self, number: u64) -> Result<(), StoreError> {
        let path = self.path(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The number of waiting reports.
    pub fn len(&self) -> Result<usize, StoreError> {
        Ok(self.numbers()?.len())
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.numbers()?.is_empty())
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let entries = std::fs::read_dir(&self.folder).map_err(StoreError::io("list", &self.folder))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut numbers: Vec<u64> =
            names.filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Record;
    use crate::report::{Place, ReportBody};

    fn report(sequence: u64) -> DeviceReport {
        let at = "2026-11-28T00:00:00Z".parse().unwrap();
        let place = Place { stream: "s", sequence, at, free_bytes: Some(1) };
        ReportBody::Alive.into_report(&Record::new(at), place)
    }

    #[test]
    fn reports_leave_in_order_and_only_once_they_count() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&folder.path().join("outbox")).unwrap();
        for sequence in [2, 1, 10, 9] {
            outbox.add(&report(sequence)).unwrap();
        }
        let numbers = |next, limit| {
            outbox.oldest(next, limit).unwrap().iter().map(|it| it.sequence).collect::<Vec<_>>()
        };
        assert_eq!(numbers(100, 10), [1, 2, 9, 10]);
        assert_eq!(numbers(10, 2), [1, 2]);
        outbox.remove(1).unwrap();
        outbox.remove(1).unwrap();
        std::fs::write(outbox.path(2), "{").unwrap();
        assert_eq!(numbers(10, 10), [9]);
        assert_eq!(outbox.len().unwrap(), 2);
    }

    #[test]
    fn the_oldest_are_dropped_when_the_queue_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        for sequence in 1..=MAX_QUEUED as u64 {
            std::fs::write(outbox.path(sequence), "{}").unwrap();
        }
        outbox.add(&report(MAX_QUEUED as u64 + 1)).unwrap();
        assert_eq!(outbox.numbers().unwrap().first(), Some(&2));
        assert_eq!(outbox.len().unwrap(), MAX_QUEUED);
    }
}
