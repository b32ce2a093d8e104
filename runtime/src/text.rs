//! Bytes of a stream as text: complete UTF-8 sequences are passed on as they end, invalid ones are replaced.

/// Collects bytes until they are characters.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes a byte and gives the text that is now certain.
    pub fn push(&mut self, byte: u8) -> String {
        self.held.push(byte);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[..valid]));
                    match error.error_len() {
                        None => {
                            self.held.drain(..valid);
                            return text;
                        }
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.held.drain(..valid + bad);
                        }
                    }
                }
            }
        }
    }

    /// What is left at the end: an unfinished sequence becomes one replacement character.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bytes: &[u8]) -> String {
        let mut s = Utf8Stream::default();
        let mut text: String = bytes.iter().map(|&b| s.push(b)).collect();
        text.push_str(&s.finish());
        text
    }

    #[test]
    fn characters_come_whole_and_rubbish_is_replaced() {
        let mut s = Utf8Stream::default();
        assert_eq!(s.push(0xe2), "");
        assert_eq!(s.push(0x82), "");
        assert_eq!(s.push(0xac), "€");
        for bytes in [&b"plain"[..], b"\xff\xfeab", b"a\xe2\x82", b"\xe2\x28\xa1", b"\xf0\x9f\x8e\x89!"] {
            assert_eq!(stream(bytes), String::from_utf8_lossy(bytes), "{bytes:?}");
        }
    }
}
