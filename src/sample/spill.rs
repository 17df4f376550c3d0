//! Visits sorted roughly by time: each goes to the bucket of its stretch of time, and full buckets go to disk.
//!
//! Customers are drawn one after the other, but the log is written in the order of time. Only the visits themselves (20 bytes each) pass
//! from the one order to the other, and memory holds a small part of them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::calendar::Calendar;
use super::session::Visit;
use super::table::Error;

const VISIT_BYTES: usize = 20;
/// A bucket that holds more goes to its file.
const BUFFER_BYTES: usize = 800 * VISIT_BYTES;

/// Buckets of visits by the time of their beginning.
#[derive(Debug)]
pub(crate) struct Spill<'a> {
    calendar: &'a Calendar,
    folder: PathBuf,
    buffers: Vec<Vec<u8>>,
    in_file: Vec<bool>,
}

impl<'a> Spill<'a> {
    /// Buckets whose files go to `folder`.
    pub(crate) fn new(calendar: &'a Calendar, folder: &Path, buckets: usize) -> Self {
        Self { calendar, folder: folder.to_owned(), buffers: vec![Vec::new(); buckets], in_file: vec![false; buckets] }
    }

    pub(crate) fn buckets(&self) -> usize {
        self.buffers.len()
    }

    /// The bucket of a moment: stretches of equal busyness, not of equal length, so that none holds much more than another.
    fn bucket(&self, moment: i64) -> usize {
        let share = self.calendar.busyness_until(moment) / self.calendar.busyness_until(i64::MAX);
        ((share * self.buckets() as f64) as usize).min(self.buckets() - 1)
    }

    pub(crate) fn push(&mut self, visit: Visit) -> Result<(), Error> {
        let bucket = self.bucket(visit.start);
        let buffer = &mut self.buffers[bucket];
        buffer.extend(visit.start.to_le_bytes());
        buffer.extend(visit.customer.to_le_bytes());
        buffer.extend(visit.serial.to_le_bytes());
        if buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        let path = self.path(bucket);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&self.buffers[bucket])).map_err(Error::io(&path))?;
        self.buffers[bucket].clear();
        self.in_file[bucket] = true;
        Ok(())
    }

    /// The visits of a bucket in the order of their beginning; the bucket is empty afterwards.
    pub(crate) fn take(&mut self, bucket: usize) -> Result<Vec<Visit>, Error> {
        let mut bytes = Vec::new();
        if std::mem::take(&mut self.in_file[bucket]) {
            let path = self.path(bucket);
            File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(Error::io(&path))?;
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        bytes.append(&mut self.buffers[bucket]);
        let mut visits: Vec<Visit> = bytes.chunks_exact(VISIT_BYTES).map(visit).collect();
        visits.sort_unstable();
        Ok(visits)
    }

    fn path(&self, bucket: usize) -> PathBuf {
        self.folder.join(format!("visits-{bucket:05}"))
    }
}

fn visit(bytes: &[u8]) -> Visit {
    let word = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("a chunk is as long as a visit"));
    let serial = u32::from_le_bytes(bytes[16..].try_into().expect("a chunk is as long as a visit"));
    Visit { start: word(0), customer: word(8) as u64, serial }
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{END, START};
    use super::*;

    #[test]
    fn visits_come_back_sorted_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let calendar = Calendar::new();
        let mut spill = Spill::new(&calendar, folder.path(), 3);
        let count = 5_000;
        for index in 0..count {
            let start = START + (index * 7_919 % count) * ((END - START) / count);
            spill.push(Visit { start, customer: u64::MAX - index as u64, serial: index as u32 }).unwrap();
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().count() > 0);
        let visits: Vec<Visit> = (0..3).flat_map(|bucket| spill.take(bucket).unwrap()).collect();
        assert_eq!(visits.len(), count as usize);
        assert!(visits.is_sorted());
        assert!(visits.iter().all(|visit| u64::MAX - visit.customer == u64::from(visit.serial)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
