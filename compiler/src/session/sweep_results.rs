//! What a sweep leaves in its folder: a line of JSON for each checkpoint as it is done, and from all lines of all
//! shards a table and a chart.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::chart::{Chart, Line};
use super::sweep::Record;
use super::{Result, SessionError};
use crate::input_file;
use crate::output_file::{may_write, write_text};

/// Shard `index` of `count`: every `count`-th checkpoint, from `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            _ => Err("write I/N with I from 0 to N-1".into()),
        }
    }
}

/// What is made of all results.
const TABLE: &str = "table.md";
const CHART: &str = "chart.svg";

/// The results file of one shard.
pub struct Results {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    done: Vec<Record>,
}

impl Results {
    /// Opens or makes the file of a shard; a line that an interruption cut short is taken away. The sweep reads
    /// `inputs`.
    ///
    /// # Errors
    /// The folder or the file cannot be made or read, or a line is no record; a file that would be written is a link, a
    /// pipe or an input, or another sweep writes it.
    pub fn open(folder: &Path, shard: Option<Shard>, inputs: &[PathBuf]) -> Result<Results> {
        let name = shard.map_or("results.jsonl".into(), |s| format!("results-{}-of-{}.jsonl", s.index, s.count));
        let path = folder.join(name);
        std::fs::create_dir_all(folder).map_err(|source| SessionError::Write { path: folder.into(), source })?;
        let unwritable = |source| SessionError::Write { path: path.clone(), source };
        for written in [path.clone(), folder.join(TABLE), folder.join(CHART)] {
            may_write(&written, inputs).map_err(|source| SessionError::Write { path: written, source })?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(unwritable)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let why = "another sweep writes it; give each its --shard, or a folder of its own";
                unwritable(std::io::Error::new(std::io::ErrorKind::ResourceBusy, why))
            }
            TryLockError::Error(source) => unwritable(source),
        })?;
        let text = read(&path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(unwritable)?;
        let done = records(&path, &text[..whole])?;
        Ok(Results { folder: folder.into(), path, file, done })
    }

    /// Whether a checkpoint has its result, for the same text and window.
    ///
    /// # Errors
    /// The file holds results of another text or window, which would not compare.
    pub fn has(&self, checkpoint: &str, text_crc32: u32, window: usize) -> Result<bool> {
        if self.done.iter().any(|r| r.text_crc32 != text_crc32 || r.window != window) {
            let path = self.path.display();
            let why = format!("{path} holds results of another text or window; choose another folder");
            return Err(SessionError::Text(why));
        }
        Ok(self.done.iter().any(|r| r.checkpoint == checkpoint && r.error.is_none()))
    }

    /// Adds a record, on the disk before anything else is done. A checkpoint that failed before, and fails again for
    /// the same reason, has its line already.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let last = self.done.iter().rfind(|done| done.checkpoint == record.checkpoint);
        if record.error.is_some() && last.is_some_and(|last| last.error == record.error) {
            return Ok(());
        }
        let unwritable = |source| SessionError::Write { path: self.path.clone(), source };
        let mut line = serde_json::to_string(record).map_err(|e| unwritable(e.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()).map_err(unwritable)?;
        self.done.push(record.clone());
        Ok(())
    }

    /// Writes `table.md` and `chart.svg` from the results of all shards so far; gives the number of checkpoints.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn report(&self) -> Result<usize> {
        let mut all: IndexMap<String, Record> = IndexMap::new();
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .map_err(|source| SessionError::Read { path: self.folder.clone(), source })?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("results") && name.ends_with(".jsonl")
            })
            .collect();
        files.sort();
        for path in files {
            let text = read(&path)?;
            // Another shard may be writing its last line.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for record in records(&path, &text[..whole])? {
                all.insert(record.checkpoint.clone(), record);
            }
        }
        let mut all: Vec<Record> = all.into_values().collect();
        all.sort_by(|a, b| (&a.run, a.step, &a.checkpoint).cmp(&(&b.run, b.step, &b.checkpoint)));
        for (name, text) in [(TABLE, table(&all)), (CHART, chart(&all).svg())] {
            let path = self.folder.join(name);
            write_text(&path, &text).map_err(|source| SessionError::Write { path, source })?;
        }
        Ok(all.len())
    }
}

fn read(path: &Path) -> Result<String> {
    let read = input_file::read_text(path, input_file::TEXT);
    read.map_err(|source| SessionError::Read { path: path.into(), source })
}

fn records(path: &Path, text: &str) -> Result<Vec<Record>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        serde_json::from_str(line)
            .map_err(|e| SessionError::Text(format!("{}:{}: no result of a sweep: {e}", path.display(), number + 1)))
    });
    parsed.collect()
}

fn table(records: &[Record]) -> String {
    let mut out = String::from(
        "| run | step | loss | perplexity | bits per byte | level | checkpoint |\n\
         |---|---:|---:|---:|---:|---|---|\n",
    );
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.4}"));
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    for r in records {
        let step = r.step.map_or_else(|| "-".into(), |s| s.to_string());
        let (run, file) = (cell(&r.run), cell(&r.checkpoint));
        // Writing to a string cannot fail.
        let _ = match &r.error {
            Some(error) => writeln!(out, "| {run} | {step} | - | - | - | {} | {file} |", cell(first_line(error))),
            None => {
                let (loss, perplexity, bits) = (number(r.loss), number(r.perplexity), number(r.bits_per_byte));
                writeln!(out, "| {run} | {step} | {loss} | {perplexity} | {bits} | {} | {file} |", r.level)
            }
        };
    }
    out
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Loss against step, a line for each run. Results without a step are final ones: they stand at the end of their run.
fn chart(records: &[Record]) -> Chart {
    let mut runs: IndexMap<String, Vec<(Option<f64>, f64)>> = IndexMap::new();
    for r in records {
        if let Some(loss) = r.loss {
            let name = format!("{} ({})", r.run, r.level);
            runs.entry(name).or_default().push((r.step.map(|s| s as f64), loss));
        }
    }
    let lines = runs.into_iter().map(|(name, points)| {
        let last = points.iter().filter_map(|(step, _)| *step).fold(0.0, f64::max);
        let mut points: Vec<(f64, f64)> = points.into_iter().map(|(step, loss)| (step.unwrap_or(last), loss)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name, points }
    });
    Chart { x: "step".into(), y: "loss, nats per element".into(), lines: lines.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(checkpoint: &str, step: u64) -> Record {
        Record {
            checkpoint: checkpoint.into(),
            run: "a|b".into(),
            step: Some(step),
            level: "byte".into(),
            loss: Some(1.5),
            text_crc32: 7,
            ..Record::default()
        }
    }

    #[test]
    fn results_survive_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let open = |shard: Option<&str>| Results::open(folder.path(), shard.map(|s| s.parse().unwrap()), &[]);
        let mut results = open(None).unwrap();
        results.add(&record("one", 1)).unwrap();
        results.file.write_all(b"{\"checkpoint\": \"tw").unwrap();
        // Two never write one file.
        assert!(open(None).is_err_and(|error| error.to_string().contains("another sweep")));
        drop(results);
        let mut results = open(None).unwrap();
        assert!(results.has("one", 7, 0).unwrap() && !results.has("two", 7, 0).unwrap());
        assert!(results.has("one", 8, 0).is_err());
        let failed = Record { error: Some("damaged".into()), ..record("two", 2) };
        results.add(&failed).unwrap();
        let lines = || std::fs::read_to_string(folder.path().join("results.jsonl")).unwrap().lines().count();
        for _ in 0..3 {
            drop(results);
            results = open(None).unwrap();
            results.add(&Record { seconds: 2.0, ..failed.clone() }).unwrap();
            assert_eq!(lines(), 2);
        }
        results.add(&Record { error: Some("gone".into()), ..failed.clone() }).unwrap();
        assert_eq!(lines(), 3);
        results.add(&failed).unwrap();
        let other = open(Some("1/2")).unwrap();
        assert_eq!(other.report().unwrap(), 2);
        let table = std::fs::read_to_string(folder.path().join("table.md")).unwrap();
        assert!(table.contains(r"| a\|b | 1 | 1.5000 |") && table.contains("damaged"), "{table}");
    }

    #[test]
    fn shards() {
        assert_eq!("0/3".parse(), Ok(Shard { index: 0, count: 3 }));
        for wrong in ["3/3", "0/0", "1", "a/b", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
