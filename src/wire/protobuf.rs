//! Messages of protocol buffers, looked at without their schema: where fields stand, and the same
//! message with some of them changed, the lengths around them made to fit. Every other byte stays.

use std::ops::Range;

/// How a field's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Eight bytes: a double, a fixed 64-bit number.
    Eight,
    /// Four bytes: a float, a fixed 32-bit number.
    Four,
    /// A length and so many bytes: a string, a message, packed numbers.
    Length,
    /// A number of one to ten bytes.
    Varint,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub number: u32,
    pub kind: Kind,
    /// Tag, length and value.
    pub span: Range<usize>,
    /// The value alone.
    pub value: Range<usize>,
}

/// The fields of a message, in its order. None where these bytes are no message (or one with groups,
/// which nothing in use has).
pub fn fields(message: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let field = field_at(message, at)?;
        at = field.span.end;
        found.push(field);
    }
    Some(found)
}

fn field_at(message: &[u8], start: usize) -> Option<Field> {
    let (tag, mut at) = varint(message, start)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number))?;
    let (kind, length) = match tag & 7 {
        0 => (Kind::Varint, varint(message, at)?.1 - at),
        1 => (Kind::Eight, 8),
        2 => {
            let (length, begin) = varint(message, at)?;
            at = begin;
            (Kind::Length, usize::try_from(length).ok()?)
        }
        5 => (Kind::Four, 4),
        _ => return None,
    };
    let end = at.checked_add(length).filter(|end| *end <= message.len())?;
    Some(Field { number, kind, span: start..end, value: at..end })
}

/// The number at a place, and where it ends.
fn varint(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (place, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        let part = u64::from(byte & 0x7f);
        if place == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, start + place + 1));
        }
    }
    None
}

/// A number as it is written.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that has a length.
pub fn put_field(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A float; none where it is 0, which is what is not written means.
pub fn put_float(out: &mut Vec<u8>, number: u32, value: f32) {
    if value != 0.0 {
        put_varint(out, u64::from(number) << 3 | 5);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// The first field of this number that has a length.
pub fn first(message: &[u8], number: u32) -> Option<&[u8]> {
    let mut at = 0;
    while at < message.len() {
        let field = field_at(message, at)?;
        if field.number == number && field.kind == Kind::Length {
            return Some(&message[field.value]);
        }
        at = field.span.end;
    }
    None
}

/// The text of the first field of this number.
pub fn text(message: &[u8], number: u32) -> Option<&str> {
    std::str::from_utf8(first(message, number)?).ok()
}

/// The first number of this field.
pub fn number(message: &[u8], wanted: u32) -> Option<u64> {
    let mut at = 0;
    while at < message.len() {
        let field = field_at(message, at)?;
        if field.number == wanted && field.kind == Kind::Varint {
            return varint(message, field.value.start).map(|(value, _)| value);
        }
        at = field.span.end;
    }
    None
}

/// A packed list of numbers.
pub fn numbers(packed: &[u8]) -> Option<Vec<u64>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < packed.len() {
        let (value, end) = varint(packed, at)?;
        found.push(value);
        at = end;
    }
    Some(found)
}

/// The messages at the end of a path of field numbers, in order: the message itself for an empty one.
/// None where something on the way is no message.
pub fn below<'m>(message: &'m [u8], path: &[u32]) -> Option<Vec<&'m [u8]>> {
    let Some((number, rest)) = path.split_first() else { return Some(vec![message]) };
    let mut found = Vec::new();
    for field in fields(message)? {
        if field.number == *number && field.kind == Kind::Length {
            found.extend(below(&message[field.value], rest)?);
        }
    }
    Some(found)
}

/// The message with each of the messages at the end of a path changed, in order; the lengths on the
/// way are made to fit. None where something on the way is no message, or where `change` gives none.
pub fn changed(
    message: &[u8],
    path: &[u32],
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let Some((number, rest)) = path.split_first() else { return change(message) };
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message)? {
        if field.number == *number && field.kind == Kind::Length {
            put_field(&mut out, *number, &changed(&message[field.value], rest, change)?);
        } else {
            out.extend_from_slice(&message[field.span]);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message with a string, a number, a float and a message in it.
    fn sample() -> Vec<u8> {
        let mut inner = Vec::new();
        put_field(&mut inner, 1, b"x");
        put_float(&mut inner, 3, 0.5);
        let mut message = Vec::new();
        put_field(&mut message, 2, b"name");
        message.extend([0x28, 0x96, 0x01]);
        put_field(&mut message, 9, &inner);
        message
    }

    #[test]
    fn fields_are_told_apart() {
        let message = sample();
        let found = fields(&message).unwrap();
        let told: Vec<_> = found.iter().map(|field| (field.number, field.kind)).collect();
        assert_eq!(told, [(2, Kind::Length), (5, Kind::Varint), (9, Kind::Length)]);
        assert_eq!(text(&message, 2), Some("name"));
        assert_eq!(number(&message, 5), Some(150));
        let inner = first(&message, 9).unwrap();
        assert_eq!(fields(inner).unwrap()[1].kind, Kind::Four);
        assert_eq!(first(&message, 4), None);
    }

    #[test]
    fn lengths_around_a_change_fit() {
        let message = sample();
        let longer = changed(&message, &[9, 1], &mut |_| Some(vec![b'y'; 300])).unwrap();
        assert_eq!(below(&longer, &[9, 1]).unwrap(), [&[b'y'; 300][..]]);
        assert_eq!(fields(&longer).unwrap().len(), 3);
        assert_eq!(number(&longer, 5), Some(150));
        assert_eq!(changed(&message, &[9, 1], &mut |_| None), None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for wrong in [&[0x0a, 5, 1][..], &[0x0b], &[0x00, 1], &[0xff; 11], &[0x08], &[0x0d, 1, 2]] {
            assert_eq!(fields(wrong), None, "{wrong:?}");
        }
        assert_eq!(fields(b""), Some(Vec::new()));
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let field = prop_oneof![
            (1u32..20, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(number, value)| {
                let mut out = Vec::new();
                put_field(&mut out, number, &value);
                out
            }),
            (1u32..20, any::<f32>()).prop_map(|(number, value)| {
                let mut out = Vec::new();
                put_float(&mut out, number, value);
                out
            }),
            (1u64..20, any::<u64>()).prop_map(|(number, value)| {
                let mut out = Vec::new();
                put_varint(&mut out, number << 3);
                put_varint(&mut out, value);
                out
            }),
        ];
        prop::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
    }

    proptest! {
        #[test]
        fn nothing_changed_is_byte_for_byte(inner in message(), before in message(), after in message()) {
            let mut whole = before.clone();
            put_field(&mut whole, 30, &inner);
            whole.extend_from_slice(&after);
            let same = changed(&whole, &[30], &mut |message| Some(message.to_vec())).unwrap();
            prop_assert_eq!(&same, &whole);
            let spans: usize = fields(&whole).unwrap().iter().map(|field| field.span.len()).sum();
            prop_assert_eq!(spans, whole.len());
            let emptied = changed(&whole, &[30], &mut |_| Some(Vec::new())).unwrap();
            prop_assert_eq!(below(&emptied, &[30]).unwrap(), [&b""[..]]);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = fields(&bytes);
            let _ = below(&bytes, &[1, 2]);
            let _ = numbers(&bytes);
            let _ = changed(&bytes, &[1], &mut |_| Some(vec![1]));
        }
    }
}
