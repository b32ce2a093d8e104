//! The fixed part of a package: its preamble of 64 bytes (spec/package.md). What follows it is not known here.

/// What every package starts with. The line ends show a file that was transferred as text.
pub const MAGIC: [u8; 8] = *b"STERNA\r\n";
/// The version of the format that is read and written.
pub const VERSION: u32 = 1;
/// Bytes of the preamble.
pub const PREAMBLE: usize = 64;
/// The header's end and every weight are padded to a multiple of this.
pub const ALIGNMENT: usize = 64;
/// Zero bytes after the weights: the padding that kernels count as part of what they read, and one vector more.
pub const TAIL: usize = 128;
/// Longest header accepted, in bytes.
pub const MAX_HEADER: usize = 1 << 28;

/// The fields of a preamble that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Bytes of the JSON header, which starts at byte 64.
    pub header_bytes: usize,
    /// Where the weight section starts: the end of the header, padded to 64.
    pub weights_offset: usize,
    /// Bytes of the weight section, a multiple of 64.
    pub weights_bytes: usize,
    /// CRC-32 of the header.
    pub header_crc: u32,
    /// CRC-32 of the weight section.
    pub weights_crc: u32,
}

/// Why the bytes are not a package, or a damaged one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Shorter than a preamble.
    #[error("the file has {0} bytes, fewer than the preamble of {PREAMBLE}")]
    TooShort(usize),
    /// Not a package.
    #[error("not a .sterna package: it does not start with the magic bytes")]
    Magic,
    /// A package of another version.
    #[error("byte 8: package version {0}, this build reads version {VERSION}")]
    Version(u32),
    /// The preamble is damaged.
    #[error("byte 56: the preamble's checksum is {found:08x}, expected {expected:08x}: the file is damaged")]
    PreambleChecksum {
        /// Computed.
        found: u32,
        /// In the file.
        expected: u32,
    },
    /// A field that contradicts the format or the file.
    #[error("byte {offset}: {field} is {found}, expected {expected}")]
    Field {
        /// Where the field lies.
        offset: usize,
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// A section whose bytes were changed.
    #[error(
        "bytes {start}..{end}: the {section} has checksum {found:08x}, expected {expected:08x}: the file is damaged"
    )]
    SectionChecksum {
        /// Which.
        section: &'static str,
        /// Its first byte.
        start: usize,
        /// One past its last byte.
        end: usize,
        /// Computed.
        found: u32,
        /// In the preamble.
        expected: u32,
    },
    /// Padding that is not zero.
    #[error("byte {0}: padding is not zero")]
    Padding(usize),
}

impl Preamble {
    /// Bytes of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.weights_offset + self.weights_bytes + TAIL
    }

    /// The 64 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PREAMBLE] {
        let mut bytes = [0; PREAMBLE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in
            [(16, self.header_bytes), (24, self.weights_offset), (32, self.weights_bytes), (40, self.file_bytes())]
        {
            bytes[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
        }
        bytes[48..52].copy_from_slice(&self.header_crc.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.weights_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..56]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the preamble of a whole file and checks it, the header's checksum and all padding; not the weights.
    ///
    /// # Errors
    /// Anything that the format does not allow.
    pub fn read(file: &[u8]) -> Result<Self, FormatError> {
        let head: &[u8; PREAMBLE] = file.first_chunk().ok_or(FormatError::TooShort(file.len()))?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        if head[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        if word(8) != VERSION {
            return Err(FormatError::Version(word(8)));
        }
        let found = crc32fast::hash(&head[..56]);
        if found != word(56) {
            return Err(FormatError::PreambleChecksum { found, expected: word(56) });
        }
        let expect = |offset, field, found: u64, expected: u64| {
            if found == expected { Ok(()) } else { Err(FormatError::Field { offset, field, found, expected }) }
        };
        expect(12, "the flags", word(12).into(), 0)?;
        expect(60, "the reserved word", word(60).into(), 0)?;
        expect(40, "the file size", long(40), file.len() as u64)?;
        // from here every length is compared with the file's before it is used
        let limit = (file.len() - PREAMBLE).min(MAX_HEADER) as u64;
        if long(16) > limit {
            return Err(FormatError::Field {
                offset: 16,
                field: "the header's length",
                found: long(16),
                expected: limit,
            });
        }
        let header_bytes = long(16) as usize;
        let weights_offset = (PREAMBLE + header_bytes).next_multiple_of(ALIGNMENT);
        expect(24, "the weights' offset", long(24), weights_offset as u64)?;
        let weights_bytes = file.len().saturating_sub(weights_offset + TAIL);
        expect(32, "the weights' length", long(32), weights_bytes as u64)?;
        expect(32, "the weights' length modulo 64", long(32) % ALIGNMENT as u64, 0)?;
        let preamble =
            Self { header_bytes, weights_offset, weights_bytes, header_crc: word(48), weights_crc: word(52) };
        expect(40, "the file size", long(40), preamble.file_bytes() as u64)?;
        preamble.check(file, "header", PREAMBLE, PREAMBLE + header_bytes, preamble.header_crc)?;
        zero(file, PREAMBLE + header_bytes, weights_offset)?;
        zero(file, weights_offset + weights_bytes, file.len())?;
        Ok(preamble)
    }

    /// Compares the weight section with its checksum; reads all of it.
    ///
    /// # Errors
    /// It differs.
    pub fn check_weights(&self, file: &[u8]) -> Result<(), FormatError> {
        self.check(
            file,
            "weight section",
            self.weights_offset,
            self.weights_offset + self.weights_bytes,
            self.weights_crc,
        )
    }

    fn check(
        &self,
        file: &[u8],
        section: &'static str,
        start: usize,
        end: usize,
        expected: u32,
    ) -> Result<(), FormatError> {
        let found = crc32fast::hash(&file[start..end]);
        if found == expected {
            Ok(())
        } else {
            Err(FormatError::SectionChecksum { section, start, end, found, expected })
        }
    }
}

fn zero(file: &[u8], from: usize, to: usize) -> Result<(), FormatError> {
    match file[from..to].iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(FormatError::Padding(from + at)),
    }
}
