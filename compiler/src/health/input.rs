//! The sequences that pointer health is measured on: windows of a text, or blocks of random tokens written twice.

use super::HealthError;

/// How often a block is written.
pub const REPETITIONS: usize = 2;

/// The most different tokens of all blocks together.
const MOST: usize = 1 << 26;

/// Consecutive windows of a stream of tokens, stored as 16-bit little-endian numbers.
///
/// # Errors
/// The bytes are no such numbers, or too few.
pub fn windows(bytes: &[u8], sequences: usize, length: usize) -> Result<Vec<Vec<u32>>, HealthError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(HealthError::OddBytes { bytes: bytes.len() });
    }
    if sequences == 0 || length == 0 {
        return Err(HealthError::Nothing);
    }
    if sequences.checked_mul(length).is_none_or(|needed| needed > pairs.len()) {
        return Err(HealthError::TooShort { sequences, length, found: pairs.len() });
    }
    let token = |pair: &[u8; 2]| u32::from(u16::from_le_bytes(*pair));
    Ok(pairs.chunks_exact(length).take(sequences).map(|window| window.iter().map(token).collect()).collect())
}

/// Blocks of distinct random tokens, each written [`REPETITIONS`] times; one stream of random numbers serves all.
///
/// # Errors
/// The vocabulary has not so many tokens.
pub fn repeats(sequences: usize, block: usize, vocabulary: usize, seed: u64) -> Result<Vec<Vec<u32>>, HealthError> {
    if sequences == 0 || block == 0 {
        return Err(HealthError::Nothing);
    }
    if block > vocabulary {
        return Err(HealthError::Block { block, vocabulary });
    }
    if sequences.saturating_mul(block) > MOST {
        return Err(HealthError::Many { sequences, block });
    }
    let mut state = seed;
    let mut all = Vec::with_capacity(sequences);
    for _ in 0..sequences {
        let mut tokens: Vec<u32> = Vec::with_capacity(block * REPETITIONS);
        let mut taken = vec![false; vocabulary];
        while tokens.len() < block {
            let token = ((split_mix(&mut state) >> 32) * vocabulary as u64) >> 32;
            if !std::mem::replace(&mut taken[token as usize], true) {
                tokens.push(token as u32);
            }
        }
        all.push(tokens.repeat(REPETITIONS));
    }
    Ok(all)
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_the_published_stream() {
        let all = repeats(2, 6, 96, 1).unwrap();
        assert_eq!(all[0], [54, 71, 93, 42, 73, 84, 54, 71, 93, 42, 73, 84]);
        assert_eq!(all[1][..6], [50, 27, 76, 38, 58, 43]);
        assert!(matches!(repeats(1, 7, 6, 1), Err(HealthError::Block { .. })));
    }

    #[test]
    fn windows_are_consecutive_and_whole() {
        let bytes = [1, 0, 2, 0, 3, 1, 4, 0, 5, 0];
        assert_eq!(windows(&bytes, 2, 2).unwrap(), [[1, 2], [259, 4]]);
        assert!(matches!(windows(&bytes, 3, 2), Err(HealthError::TooShort { found: 5, .. })));
        assert!(matches!(windows(&bytes[1..], 1, 1), Err(HealthError::OddBytes { bytes: 9 })));
        assert!(matches!(windows(&bytes, usize::MAX, 2), Err(HealthError::TooShort { .. })));
    }
}
