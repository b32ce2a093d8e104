//! Watches one launch for accesses whose outcome would depend on how it is split or scheduled.
//!
//! Machine code relies on three promises that a plain run cannot show: nothing writes the memory of a read-only
//! parameter while its kernel runs, no two chunks write the same byte, and no chunk reads what another writes. Whole
//! strips may load beyond their row's end into memory that is someone else's, so of a load only the first element
//! counts as read.

use std::collections::HashMap;

/// The accesses of one launch.
#[derive(Debug, Default)]
pub struct Watch {
    /// The chunk that runs now.
    pub chunk: u32,
    writers: HashMap<(usize, i64), u32>,
    reads: Vec<Read>,
    conflict: Option<String>,
}

#[derive(Debug)]
struct Read {
    region: usize,
    start: i64,
    bytes: usize,
    /// `None` where the memory must not change at all.
    chunk: Option<u32>,
}

impl Watch {
    /// Notes bytes that are read; `constant` through a read-only parameter.
    pub fn read(&mut self, region: usize, start: i64, bytes: usize, constant: bool) {
        let chunk = if constant { None } else { Some(self.chunk) };
        self.reads.push(Read { region, start, bytes, chunk });
    }

    /// Notes bytes that are written.
    pub fn write(&mut self, region: usize, start: i64, bytes: usize) {
        for at in start..start + bytes as i64 {
            let before = self.writers.insert((region, at), self.chunk);
            if before.is_some_and(|before| before != self.chunk) {
                self.conflict.get_or_insert_with(|| format!("two chunks write byte {at} of region {region}"));
            }
        }
    }

    /// What was wrong with the launch, if anything.
    pub fn finish(self) -> Result<(), String> {
        if let Some(conflict) = self.conflict {
            return Err(conflict);
        }
        for read in self.reads {
            for at in read.start..read.start + read.bytes as i64 {
                match (self.writers.get(&(read.region, at)), read.chunk) {
                    (Some(_), None) => {
                        return Err(format!("byte {at} of region {} is read as constant and written", read.region));
                    }
                    (Some(writer), Some(chunk)) if *writer != chunk => {
                        return Err(format!("byte {at} of region {} is read and written by two chunks", read.region));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
