//! Watches one launch for accesses whose outcome would depend on how it is split or scheduled.
//!
//! Machine code relies on three promises that a plain run cannot show: nothing writes the memory of a read-only
//! parameter while its kernel runs, no two chunks write the same byte, and no chunk reads what another writes. Whole
//! strips may load beyond their row's end into memory that is someone else's, so of a load only the first element
//! counts as read.

use rustc_hash::FxHashMap;

/// Bytes that are looked up together: most accesses touch one or two such lines.
const LINE: usize = 64;
/// Where no chunk wrote.
const NOBODY: u32 = u32::MAX;

/// The accesses of one launch.
#[derive(Debug, Default)]
pub struct Watch {
    /// The chunk that runs now.
    pub chunk: u32,
    /// The last writer of each byte, by region and line.
    writers: FxHashMap<(usize, i64), [u32; LINE]>,
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
        for (line, places) in lines(start, bytes) {
            let writers = self.writers.entry((region, line)).or_insert([NOBODY; LINE]);
            for place in places {
                let before = std::mem::replace(&mut writers[place], self.chunk);
                if before != NOBODY && before != self.chunk {
                    let at = line * LINE as i64 + place as i64;
                    self.conflict.get_or_insert_with(|| format!("two chunks write byte {at} of region {region}"));
                }
            }
        }
    }

    /// What was wrong with the launch, if anything.
    pub fn finish(self) -> Result<(), String> {
        if let Some(conflict) = self.conflict {
            return Err(conflict);
        }
        for read in self.reads {
            for (line, mut places) in lines(read.start, read.bytes) {
                let Some(writers) = self.writers.get(&(read.region, line)) else { continue };
                let harms = |&place: &usize| writers[place] != NOBODY && read.chunk != Some(writers[place]);
                let Some(place) = places.find(harms) else { continue };
                let (at, region) = (line * LINE as i64 + place as i64, read.region);
                return Err(match read.chunk {
                    None => format!("byte {at} of region {region} is read as constant and written"),
                    Some(_) => format!("byte {at} of region {region} is read and written by two chunks"),
                });
            }
        }
        Ok(())
    }
}

/// The lines that these bytes touch, with the places in each.
fn lines(start: i64, bytes: usize) -> impl Iterator<Item = (i64, std::ops::Range<usize>)> {
    let (size, end) = (LINE as i64, start + bytes as i64);
    let last = if bytes == 0 { start.div_euclid(size) } else { (end - 1).div_euclid(size) + 1 };
    (start.div_euclid(size)..last).map(move |line| {
        let place = |at: i64| (at - line * size).clamp(0, size) as usize;
        (line, place(start)..place(end))
    })
}
