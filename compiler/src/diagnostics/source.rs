//! The texts that diagnostics point into, and the spans that do the pointing.

use std::ops::Range;
use std::sync::Arc;

/// Names one text of a [`SourceFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A range of bytes of one text. Texts are limited to less than 4 GiB when they are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes `start..end` of a text.
    pub fn new(file: FileId, range: Range<usize>) -> Self {
        let clip = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: clip(range.start), end: clip(range.end) }
    }

    /// The smallest span that holds both. A span of another file leaves this one as it is.
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The bytes as a range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A place as people count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One text with its name and the starts of its lines.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
    line_starts: Vec<u32>,
    /// How many characters stand before each [`BLOCK`] of bytes.
    characters: Vec<u32>,
}

/// A place is counted from the block it is in, so that a text of one long line takes no longer than others.
const BLOCK: usize = 512;

impl SourceFile {
    /// The name shown in diagnostics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Line and column of a byte offset; offsets past the end count as the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.clip(offset);
        let line = self.line_starts.partition_point(|&start| start as usize <= offset);
        let start = self.line_starts[line - 1] as usize;
        Position { line, column: self.characters(offset) - self.characters(start) + 1 }
    }

    /// How many characters stand before an offset.
    fn characters(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        self.characters[block] as usize + begun(&self.text.as_bytes()[block * BLOCK..offset])
    }

    /// The bytes of a line (from 1) without its line break.
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts.get(line - 1).map_or(self.text.len(), |&s| s as usize);
        let end = self.line_starts.get(line).map_or(self.text.len(), |&s| s as usize);
        let content = self.text[start..end].trim_end_matches(['\n', '\r']);
        start..start + content.len()
    }

    /// The nearest character boundary at or below an offset.
    pub(super) fn clip(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// The characters that begin in a piece of UTF-8.
fn begun(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// Every text of one run: graph files, libraries, JSON configs.
#[derive(Clone, Debug, Default)]
pub struct SourceFiles {
    files: Vec<SourceFile>,
}

impl SourceFiles {
    /// No texts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text under the name that diagnostics show.
    pub fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> FileId {
        let text: Arc<str> = text.into();
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = breaks.filter_map(|(at, _)| u32::try_from(at + 1).ok());
        let line_starts = std::iter::once(0).chain(starts).collect();
        let mut characters = vec![0];
        for block in text.as_bytes().chunks(BLOCK) {
            characters.push(characters[characters.len() - 1] + begun(block) as u32);
        }
        self.files.push(SourceFile { name: name.into(), text, line_starts, characters });
        FileId(self.files.len() as u32 - 1)
    }

    /// The text of an id that this collection gave out.
    pub fn get(&self, file: FileId) -> &SourceFile {
        &self.files[file.0 as usize]
    }

    /// The underlined text of a span, clipped to the file.
    pub fn slice(&self, span: Span) -> &str {
        let file = self.get(span.file);
        let (start, end) = (file.clip(span.start as usize), file.clip(span.end as usize));
        &file.text[start..end.max(start)]
    }

    /// The word that stands at a line and column (both from 1) of a file; nothing if there is no such place.
    pub fn find_place(&self, name: &str, line: u32, column: u32) -> Option<Span> {
        let index = self.files.iter().position(|file| *file.name == *name)?;
        let file = &self.files[index];
        if line == 0 || line as usize > file.line_starts.len() {
            return None;
        }
        let range = file.line_range(line as usize);
        let text = file.text.get(range.clone())?;
        let skip = text.char_indices().nth(column.saturating_sub(1) as usize)?.0;
        let word = text[skip..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - skip);
        let start = range.start + skip;
        Some(Span::new(FileId(index as u32), start..start + word.max(1)))
    }

    /// Line and column where a span begins.
    pub fn position(&self, span: Span) -> Position {
        self.get(span.file).position(span.start as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let mut files = SourceFiles::new();
        let id = files.add("a", "é = 1\nβ = 2\r\n");
        let file = files.get(id);
        assert_eq!(file.position(3), Position { line: 1, column: 3 });
        assert_eq!(file.position(7), Position { line: 2, column: 1 });
        assert_eq!(file.position(99), Position { line: 3, column: 1 });
        assert_eq!(&file.text()[file.line_range(2)], "β = 2");
        assert_eq!(files.slice(Span::new(id, 7..9)), "β");
    }
}
