//! Vectors of text in which similar texts lie close: hashed words, word pairs and letter triples,
//! of length 1. The same text always gives the same vector.

use std::iter;

use super::words;
use crate::dice::hash_bytes;

const WORD: f32 = 1.0;
const PAIR: f32 = 0.6;
const TRIPLE: f32 = 0.35;
/// Words that say little about what a text is about.
const COMMON: f32 = 0.15;

/// The vector of a text.
pub fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    let words: Vec<String> = words::of(text).map(str::to_lowercase).collect();
    for (index, word) in words.iter().enumerate() {
        let weight = if words::is_common(word) { COMMON } else { WORD };
        add(&mut vector, hash_bytes(words::stem(word).as_bytes()), weight);
        for triple in triples(word) {
            add(&mut vector, hash_bytes(triple.as_bytes()), weight * TRIPLE);
        }
        if let Some(next) = words.get(index + 1) {
            add(&mut vector, pair(hash_bytes(word.as_bytes()), next.as_bytes()), PAIR * weight);
        }
    }
    finish(text.as_bytes(), vector)
}

/// The vector of a text given as token numbers of some vocabulary.
pub(super) fn embed_tokens(tokens: &[u64], dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    for (index, token) in tokens.iter().enumerate() {
        let hash = hash_bytes(&token.to_le_bytes());
        add(&mut vector, hash, WORD);
        if let Some(next) = tokens.get(index + 1) {
            add(&mut vector, pair(hash, &next.to_le_bytes()), PAIR);
        }
    }
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    finish(&bytes, vector)
}

/// Scales a vector to length 1; a zero vector stays.
pub(super) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}

fn add(vector: &mut [f32], hash: u64, weight: f32) {
    if vector.is_empty() {
        return;
    }
    let index = (hash >> 1) % vector.len() as u64;
    vector[index as usize] += if hash & 1 == 0 { weight } else { -weight };
}

fn pair(first: u64, second: &[u8]) -> u64 {
    hash_bytes(&[&first.to_le_bytes()[..], second].concat())
}

/// `#ab`, `abc`, …, `yz#`: letters in threes, with the word's ends marked.
fn triples(word: &str) -> impl Iterator<Item = String> {
    let letters: Vec<char> = iter::once('#').chain(word.chars()).chain(iter::once('#')).collect();
    (0..letters.len().saturating_sub(2))
        .map(move |start| letters[start..start + 3].iter().collect())
}

fn finish(source: &[u8], mut vector: Vec<f32>) -> Vec<f32> {
    // Real vectors are never zero: a text without words points somewhere of its own.
    if vector.iter().all(|value| *value == 0.0) {
        add(&mut vector, hash_bytes(source), 1.0);
    }
    spread(&mut vector);
    normalise(&mut vector);
    vector
}

/// Turns the space so that every dimension carries something, as in a real model's vectors. The
/// turn keeps all angles: a Walsh–Hadamard transform in blocks, after fixed changes of sign.
fn spread(vector: &mut [f32]) {
    let block = 1 << vector.len().trailing_zeros().min(20);
    for (index, value) in vector.iter_mut().enumerate() {
        if hash_bytes(&(index as u64).to_le_bytes()) & 1 == 1 {
            *value = -*value;
        }
    }
    for block in vector.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block.len() {
            for group in block.chunks_exact_mut(half * 2) {
                let (left, right) = group.split_at_mut(half);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str, dimensions: usize) -> f32 {
        embed(a, dimensions).iter().zip(embed(b, dimensions)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn similar_texts_lie_closer_than_unrelated_ones() {
        for dimensions in [64, 256, 384, 1536, 3072] {
            let asked = "How do I reset my password?";
            let near = cosine(asked, "Resetting your password: open the sign-in page", dimensions);
            let far = cosine(asked, "Invoices are sent on the first day of a month", dimensions);
            assert!(near > far + 0.15, "{dimensions}: near {near}, far {far}");
            let same = cosine(asked, asked, dimensions);
            assert!((same - 1.0).abs() < 1e-5, "{dimensions}: {same}");
        }
    }

    #[test]
    fn vectors_are_dense_and_of_length_one() {
        for text in ["reset my password", "", "…", "日本語のテキスト"] {
            let vector = embed(text, 1536);
            let length: f32 = vector.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-4, "{text}: {length}");
        }
        let vector = embed("how do i reset the password of my account in the app", 1536);
        let zeros = vector.iter().filter(|value| **value == 0.0).count();
        assert!(zeros < 200, "{zeros} zeros");
    }

    #[test]
    fn token_numbers_work_like_words() {
        let cosine = |a: &[u64], b: &[u64]| -> f32 {
            embed_tokens(a, 256).iter().zip(embed_tokens(b, 256)).map(|(a, b)| a * b).sum()
        };
        let near = cosine(&[1, 2, 3, 4], &[9, 2, 3, 4]);
        let far = cosine(&[1, 2, 3, 4], &[11, 12, 13, 14]);
        assert!(near > far + 0.3, "near {near}, far {far}");
    }
}
