//! The numbers of a vector, as JSON has them: an array, or base64 of 32-bit floats in little-endian order.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is written, and may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A vector, and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vector {
    pub(super) numbers: Vec<f64>,
    base64: bool,
}

impl Vector {
    /// Reads a value; None where it is no vector of one of the two forms, or an empty one.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let base64 = json.first() == Some(&b'"');
        let numbers = if base64 {
            let text: String = serde_json::from_slice(json).ok()?;
            let bytes = BASE64.decode(text).ok()?;
            let (fours, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            fours.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect()
        } else {
            serde_json::from_slice::<Vec<f64>>(json).ok()?
        };
        (!numbers.is_empty()).then_some(Self { numbers, base64 })
    }

    /// Other numbers, written as these were. What is no number is `NaN`, as Python writes and reads it.
    pub(super) fn written(&self, numbers: &[f64]) -> Vec<u8> {
        if self.base64 {
            let bytes: Vec<u8> =
                numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
            return format!("\"{}\"", BASE64.encode(bytes)).into_bytes();
        }
        let numbers: Vec<String> =
            numbers.iter().map(|number| format!("{:?}", *number as f32)).collect();
        format!("[{}]", numbers.join(",")).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        let floats = Vector::read(b"[0.5, -1, 1e-7]").unwrap();
        assert_eq!(floats.numbers, [0.5, -1.0, 1e-7]);
        assert_eq!(floats.written(&[0.5, 0.0, f64::NAN]), b"[0.5,0.0,NaN]");
        let packed = Vector::read(br#""AAAAPwAAgL8=""#).unwrap();
        assert_eq!(packed.numbers, [0.5, -1.0]);
        assert_eq!(packed.written(&[0.5, -1.0]), br#""AAAAPwAAgL8=""#);
        assert_eq!(packed.written(&[f64::NAN]), br#""AADAfw==""#);
        for wrong in ["[]", "{}", "\"AAA=\"", "\"@@\"", "[\"a\"]", "null"] {
            assert_eq!(Vector::read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(-1e3..1e3f32, 1..40), base64 in any::<bool>()) {
            let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
            let vector = Vector { numbers: numbers.clone(), base64 };
            let read = Vector::read(&vector.written(&numbers)).unwrap().numbers;
            prop_assert!(read.iter().zip(&numbers).all(|(read, sent)| *read as f32 == *sent as f32));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Vector::read(&bytes);
        }
    }
}
