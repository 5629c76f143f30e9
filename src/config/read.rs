//! Reads typed values out of the tree, and goes on after a mistake: unknown keys are noted and
//! passed over, a refused value is marked and the reading is done again without it.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::diagnostic::{Collector, Mistake};
use super::place::Place;
use super::tree::{Entry, Node, Value};
use super::words;

/// Reads all that can be read; what cannot is noted. None when nothing can.
pub(super) fn read<T: DeserializeOwned>(root: &mut Node, found: &mut Collector) -> Option<T> {
    loop {
        let notes = RefCell::new(Vec::new());
        let outcome = T::deserialize(Reader { node: root, key: None, notes: &notes });
        for note in notes.into_inner() {
            found.error(note);
        }
        let refused = match outcome {
            Ok(value) => return Some(value),
            Err(refused) => refused,
        };
        let follows_from_another = refused.missing.is_some() && refused.silent;
        if !follows_from_another {
            found.error(*refused.mistake);
        }
        let marked = refused.node.is_some_and(|address| mark_refused(root, address));
        if !marked || found.is_full() {
            return None;
        }
    }
}

/// Marks the node at an address; false when it is not in the tree or was marked before.
fn mark_refused(node: &mut Node, address: usize) -> bool {
    if std::ptr::from_ref(node) as usize == address {
        return !std::mem::replace(&mut node.refused, true);
    }
    match &mut node.value {
        Value::List(items) => items.iter_mut().any(|item| mark_refused(item, address)),
        Value::Map(entries) => {
            entries.iter_mut().any(|entry| mark_refused(&mut entry.value, address))
        }
        _ => false,
    }
}

/// Why a value was refused.
#[derive(Debug)]
pub(super) struct Refused {
    mistake: Box<Mistake>,
    /// What to call it once its key is known.
    kind: Kind,
    /// The refused node, by address.
    node: Option<usize>,
    missing: Option<&'static str>,
    /// Follows from another mistake that was told already.
    silent: bool,
}

#[derive(Debug)]
enum Kind {
    /// Said in full.
    Custom,
    /// Another type was expected.
    Type(String),
    Variant(String),
}

impl Refused {
    fn new(message: String, kind: Kind) -> Self {
        let mistake = Box::new(Mistake::nowhere(message));
        Self { mistake, kind, node: None, missing: None, silent: false }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), Kind::Custom)
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = words::expected(&expected.to_string());
        Self::new(format!("expected {expected}"), Kind::Type(expected))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut refused =
            Self::new(format!("unknown value `{variant}`"), Kind::Variant(variant.to_owned()));
        refused.mistake =
            Box::new(refused.mistake.meant(variant, "there are", expected.iter().copied()));
        refused
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut refused = Self::new(String::new(), Kind::Custom);
        *refused.mistake = words::unknown_key(field, "here", None, expected, Place::default());
        refused.mistake.place = None;
        refused
    }

    fn missing_field(field: &'static str) -> Self {
        let mut refused = Self::new(format!("`{field}` is missing"), Kind::Custom);
        refused.missing = Some(field);
        refused
    }
}

/// A node on its way to a type.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// The entry it is the value of (or that its list is).
    key: Option<&'a Entry>,
    notes: &'a RefCell<Vec<Mistake>>,
}

impl<'a> Reader<'a> {
    /// Where a mistake about this node is shown: scalars at themselves, the rest at their key.
    fn place(&self) -> Place {
        match (&self.node.value, self.key) {
            (Value::List(_) | Value::Map(_) | Value::Null, Some(entry))
                if std::ptr::eq(&raw const entry.value, self.node) =>
            {
                entry.key_place
            }
            _ => self.node.place,
        }
    }

    fn key_name(&self) -> &'a str {
        self.key.map_or("the file", |entry| &entry.key)
    }

    /// Gives an error its place, its node and its final words, unless it has them.
    fn settle(&self, mut refused: Refused) -> Refused {
        if refused.node.is_none() {
            refused.node = Some(std::ptr::from_ref(self.node) as usize);
        }
        if refused.mistake.place.is_some() {
            return refused;
        }
        refused.mistake.place = Some(self.place());
        let key = self.key_name();
        if let Some(field) = refused.missing {
            refused.silent = self.node.get(field).is_some_and(|node| node.refused);
            refused.mistake.message = format!("`{key}` needs `{field}`");
            return refused;
        }
        match &refused.kind {
            Kind::Type(expected) => {
                refused.mistake.message =
                    format!("`{key}` takes {expected}, not {}", self.node.described());
                if let Some(label) = words::type_trap(expected, self.node) {
                    refused.mistake.label = Some(label);
                }
            }
            Kind::Variant(variant) => {
                refused.mistake.message = format!("`{key}` cannot be `{variant}`");
            }
            Kind::Custom => {
                let (what, form) = words::split_form(&refused.mistake.message);
                refused.mistake.label = form.or(refused.mistake.label.take());
                refused.mistake.message = format!("`{key}`: {what}");
            }
        }
        if self.node.secret {
            *refused.mistake = words::secret_misfit(key, &refused.mistake, self.place());
        }
        refused
    }

    fn value_of(&self, entry: &'a Entry) -> Self {
        Self { node: &entry.value, key: Some(entry), notes: self.notes }
    }

    fn visit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::List(items) => visitor.visit_seq(Items { reader: self, items, next: 0 }),
            Value::Map(entries) => {
                visitor.visit_map(Pairs { reader: self, entries, known: None, next: 0, at: None })
            }
            Value::Null => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_str(text),
            Value::Uint(value) => visitor.visit_u64(*value),
        }
    }
}

impl<'a> Deserializer<'a> for Reader<'a> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.visit(visitor).map_err(|error| self.settle(error))
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        let read = match &self.node.value {
            // `name: 2024` is text as much as `name: "2024"`.
            Value::Bool(_) | Value::Float(_) | Value::Int(_) | Value::Uint(_) => {
                visitor.visit_str(&self.node.spelled)
            }
            _ => self.visit(visitor),
        };
        read.map_err(|error| self.settle(error))
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.value {
            Value::Null if self.node.plain && self.node.spelled.is_empty() => {
                let text = format!("`{}` is empty", self.key_name());
                let mistake = Refused::new(text, Kind::Custom);
                let mut refused = self.settle(mistake);
                refused.mistake.label = Some("give it a value or take the line out".into());
                Err(refused)
            }
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let Value::Map(entries) = &self.node.value else {
            return self.visit(visitor).map_err(|mut error| {
                if let Kind::Type(expected) = &mut error.kind {
                    *expected = format!("a map of {}", fields.join(", "));
                }
                self.settle(error)
            });
        };
        for entry in entries.iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
            let extra = self.key.is_none() && entry.key.starts_with("x-");
            if !extra && !entry.value.refused {
                let owner = self.key_name();
                let note =
                    words::unknown_key(&entry.key, owner, Some(name), fields, entry.key_place);
                self.notes.borrow_mut().push(note);
            }
        }
        let pairs = Pairs { reader: self, entries, known: Some(fields), next: 0, at: None };
        visitor.visit_map(pairs).map_err(|error| self.settle(error))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let read = match &self.node.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant { reader: self, entry: &entries[0] })
            }
            _ => {
                let expected = format!("one of {}", variants.join(", "));
                Err(Refused::new(format!("expected {expected}"), Kind::Type(expected)))
            }
        };
        read.map_err(|error| self.settle(error))
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a> {
    reader: Reader<'a>,
    items: &'a [Node],
    next: usize,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        while let Some(node) = self.items.get(self.next) {
            self.next += 1;
            if !node.refused {
                return seed.deserialize(Reader { node, ..self.reader }).map(Some);
            }
        }
        Ok(None)
    }
}

/// The entries of a map.
struct Pairs<'a> {
    reader: Reader<'a>,
    entries: &'a [Entry],
    /// The keys to give on; None gives all.
    known: Option<&'static [&'static str]>,
    next: usize,
    at: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Pairs<'a> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        while let Some(entry) = self.entries.get(self.next) {
            self.next += 1;
            let known = self.known.is_none_or(|known| known.contains(&entry.key.as_str()));
            if known && !entry.value.refused {
                self.at = Some(entry);
                let key = de::value::StrDeserializer::<Refused>::new(&entry.key);
                return seed.deserialize(key).map(Some).map_err(|mut error| {
                    error.mistake.place.get_or_insert(entry.key_place);
                    error.node.get_or_insert(std::ptr::from_ref(&entry.value) as usize);
                    error
                });
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        match self.at.take() {
            Some(entry) => seed.deserialize(self.reader.value_of(entry)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

/// A one-key map as an enum's variant.
struct Variant<'a> {
    reader: Reader<'a>,
    entry: &'a Entry,
}

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Refused> {
        let key = de::value::StrDeserializer::<Refused>::new(&self.entry.key);
        let variant = seed.deserialize(key).map_err(|mut error| {
            error.mistake.place = Some(self.entry.key_place);
            error
        })?;
        Ok((variant, self))
    }
}

impl<'a> VariantAccess<'a> for Variant<'a> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        match self.entry.value.value {
            Value::Null => Ok(()),
            _ => {
                let text = format!("`{}` takes no options", self.entry.key);
                Err(self.reader.value_of(self.entry).settle(Refused::new(text, Kind::Custom)))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(self.reader.value_of(self.entry))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.reader.value_of(self.entry).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.reader.value_of(self.entry).deserialize_struct("", fields, visitor)
    }
}
